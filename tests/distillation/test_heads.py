"""Which linear layer gives a network's logits, and what goes into it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from imf_deploy.distillation.heads import OwnHead, branch_heads
from imf_deploy.distillation.imf_task import training_graph
from imf_deploy.method.fold import folded_classifier
from imf_deploy.models import Block, ModelSpec, build_model
from imf_deploy.settings import BranchSettings

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mobilenetv2", "classifier.1"),
        ("resnet8", "fc"),
        ("timm:vit_tiny_patch16_224", "head"),
        ("mobilenetv3", "classifier.3"),  # behind another linear layer
    ],
)
def test_the_layer_that_gives_the_logits(name: str, layer: str) -> None:
    torch.manual_seed(0)
    network = build_model(ModelSpec.for_images(name, 5, 32)).eval()
    own = OwnHead(network, IMAGES)
    assert own.linear is network.get_submodule(layer)
    with torch.no_grad():
        logits = network(IMAGES)
    (head,) = own.head()
    weight, bias = head.start
    assert (head.name, head.source) == ("plain", "own")
    assert torch.allclose(own.features @ weight.T + bias, logits, atol=1e-5)
    head.keep(weight * 2, bias + 1)
    with torch.no_grad():
        assert torch.allclose(
            network(IMAGES), own.features @ own.linear.weight.T + own.linear.bias, atol=1e-5
        )
        assert not torch.allclose(network(IMAGES), logits, atol=1e-2)
    own.close()
    assert hooks(network) == 0


class Twice(nn.Module):
    """Feeds its last layer with what that layer put out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(self.layer(images.mean((2, 3))))
        return logits


def pooled() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 5, 1), *pooled()),
        lambda: nn.Sequential(*pooled(), nn.Linear(3, 5), nn.Tanh()),
        lambda: nn.Sequential(*pooled(), nn.Linear(3, 5), nn.ReLU(inplace=True)),
        lambda: nn.Sequential(*pooled(), nn.Linear(3, 5), nn.BatchNorm1d(5, momentum=None)),
        lambda: nn.Sequential(*pooled(), nn.Linear(3, 5, bias=False)),
        Twice,
    ],
    ids=["convolution", "tanh", "in-place", "norm", "no-bias", "twice"],
)
def test_logits_of_anything_else(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make().eval()
    if isinstance(network[-1] if isinstance(network, nn.Sequential) else None, nn.BatchNorm1d):
        network[-1].running_mean.fill_(0.5)  # type: ignore[index]
    own = OwnHead(network, IMAGES)
    assert own.linear is None
    assert own.head() == []
    assert hooks(network) == 0
    own.close()


def test_hooks_come_off_a_network_that_fails() -> None:
    network = nn.Sequential(nn.Linear(7, 5))
    with pytest.raises(RuntimeError):
        OwnHead(network, IMAGES)
    assert hooks(network) == 0


def test_branches_begin_as_their_attentive_logits_and_are_kept_one_by_one() -> None:
    torch.manual_seed(0)
    graph, _, _ = training_graph(ModelSpec("resnet8", 3, 32), [Block("t", 6, 8)], BranchSettings())
    nn.init.normal_(graph.imf.attention)
    graph.imf.add_prefix_head(1)
    heads = branch_heads(graph)
    assert [head.name for head in heads] == ["imf@1", "imf@2", "imf@3"]
    assert not graph.imf.prefix_heads
    for k, head in enumerate(heads, 1):
        assert all(
            torch.equal(a, b) for a, b in zip(head.start, folded_classifier(graph.imf, k), strict=True)
        )
        assert head.start[0].shape == (3, 6 * k)
    heads[1].keep(torch.ones(3, 12), torch.zeros(3))
    assert list(graph.imf.prefix_heads) == ["1"]
    weight, bias = folded_classifier(graph.imf, 2)
    assert torch.equal(weight, torch.ones(3, 12))
    assert torch.equal(bias, torch.zeros(3))
