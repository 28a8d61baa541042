"""Blocks of any network are found, and the network is cut after one of them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.branches import Taps
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks, truncate

# Names of torchvision's own stages, or of the last layer before a reduction; channels from the papers.
EXPECTED = {
    "mobilenetv2": {
        "features.1": 16, "features.3": 24, "features.6": 32, "features.13": 96, "features": 1280,
    },
    "resnet18": {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512},
    "resnet50": {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048},
    "shufflenetv2": {"stage2": 116, "stage3": 232, "conv5": 1024},
    "mobilenetv3": {
        "features.1": 16, "features.3": 24, "features.6": 40, "features.12": 112, "features": 960,
    },
    "efficientnet_b0": {
        "features.1": 16, "features.2": 24, "features.3": 40, "features.5": 112, "features": 1280,
    },
    "regnet_y_400mf": {
        "trunk_output.block1": 48, "trunk_output.block2": 104, "trunk_output.block3": 208,
        "trunk_output": 440,
    },
    "mnasnet1_0": {"layers.7": 16, "layers.8": 24, "layers.9": 40, "layers.11": 96, "layers": 1280},
    "vgg11_bn": {
        "features.6": 128, "features.13": 256, "features.20": 512, "features.27": 512, "features": 512,
    },
    "convnext_tiny": {"features.1": 96, "features.3": 192, "features.5": 384, "features": 768},
    "resnet8": {"layer1": 16, "layer2": 32, "layer3": 64},
}  # fmt: skip


def built(name: str, size: int = 64, strides: tuple[int, ...] = ()) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelSpec(name, 7, size, strides)).eval()


def seen_by_hooks(model: nn.Module, blocks: list[Block], images: torch.Tensor) -> list[torch.Tensor]:
    """Copies of what the blocks put out, taken before anything can change them in place."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.__setitem__(name, output.clone())

    hooks = [model.get_submodule(block.name).register_forward_hook(keep(block.name)) for block in blocks]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return [seen[block.name] for block in blocks]


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_taps_and_cuts_of(name: str) -> None:
    model = built(name)
    blocks = find_blocks(model, 64)
    assert {block.name: block.channels for block in blocks} == EXPECTED[name]
    assert [block.size for block in blocks] == sorted({block.size for block in blocks}, reverse=True)
    images = torch.randn(2, 3, 64, 64)
    expected = seen_by_hooks(model, blocks, images)
    for block, features in zip(blocks, expected, strict=True):
        assert list(features.shape) == [2, block.channels, block.size, block.size]
    with torch.no_grad():
        _, tapped = Taps(model, blocks).run(images)
        for k in {1, 2, len(blocks)}:
            cut = truncate(model, blocks[:k])(images)
            assert list(cut) == [block.name for block in blocks[:k]]
            for block, features in zip(blocks[:k], expected, strict=False):
                assert torch.equal(cut[block.name], features)
    assert all(torch.equal(a, b) for a, b in zip(tapped, expected, strict=True))


def test_a_cut_shares_the_parameters_and_has_no_later_ones() -> None:
    model = built("resnet8", 16)
    cut = truncate(model, find_blocks(model, 16)[:2])
    own = dict(model.named_parameters())
    names = [name for name, _ in cut.named_parameters()]
    assert all(parameter is own[name] for name, parameter in cut.named_parameters())
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2"}


def test_finding_blocks_changes_nothing() -> None:
    model = built("resnet8", 16).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_blocks(model, 16)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_feature_maps() -> None:
    with pytest.raises(ImfDeployError, match="no blocks found in Sequential"):
        find_blocks(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), 16)


class Wayward(nn.Module):
    """Its path depends on its input at the root, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(self.a(x))
        return y.mean((2, 3)) if y.sum() > 0 else y.amax((2, 3))


def test_a_network_that_cannot_be_cut() -> None:
    model = Wayward().eval()
    blocks = find_blocks(model, 16)
    with pytest.raises(ImfDeployError, match="cannot cut Wayward after b") as caught:
        truncate(model, blocks)
    assert "\n" not in str(caught.value)


def test_blocks_are_found_on_the_models_own_device() -> None:
    model = build_model(ModelSpec.for_images("shufflenetv2", 3, 32))
    # The meta device has shapes and no values; an input from the CPU would not fit it.
    assert find_blocks(model.to("meta"), 32) == find_blocks(
        build_model(ModelSpec("shufflenetv2", 3, 32, (2, 1))), 32
    )


def test_auxiliary_heads_are_left_out() -> None:
    model = build_model(ModelSpec.for_images("googlenet", 3, 32))
    assert model.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_a_network_that_cannot_run_is_reported() -> None:
    with pytest.raises(UsageError, match="vit_b_16 cannot be built for images of 28 pixels"):
        build_model(ModelSpec.for_images("vit_b_16", 3, 28))
    with pytest.raises(ImfDeployError, match="Inception3 cannot run on images of 32 pixels") as caught:
        build_model(ModelSpec.for_images("inception_v3", 3, 32))
    assert "\n" not in str(caught.value)
