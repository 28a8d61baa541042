"""Taps by hand, layouts other than maps, outputs that the network overwrites, and cuts around them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from imf_deploy.errors import UsageError
from imf_deploy.method.branches import Taps
from imf_deploy.method.fold import FoldedImf
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks, student_blocks, to_map, truncate
from imf_deploy.records.making import IfdShape


def test_blocks_named_by_hand_come_in_the_order_in_which_they_run() -> None:
    spec = ModelSpec("resnet14", 3, 16, taps=("layer2", "layer1.0", "layer1.1.conv1"))
    model = build_model(spec).eval()
    blocks = student_blocks(model, spec)
    assert [(b.name, b.channels, b.size) for b in blocks] == [
        ("layer1.0", 16, 16), ("layer1.1.conv1", 16, 16), ("layer2", 32, 8),
    ]  # fmt: skip
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        _, tapped = Taps(model, blocks).run(images)
        cut = truncate(model, blocks)
        assert all(torch.equal(cut(images)[b.name], tap) for b, tap in zip(blocks, tapped, strict=True))
    assert not any(name.startswith(("layer3", "fc")) for name, _ in cut.named_parameters())


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        ("layer9", "has no module 'layer9' to tap. Similar names: layer"),
        ("fc", "'fc' of CifarResNet does not output a feature map"),
        ("layer1.0.relu", "runs 2 times for one image"),
        ("", "has no module ''"),
    ],
)
def test_taps_that_cannot_be_used(tap: str, said: str) -> None:
    model = build_model(ModelSpec("resnet8", 3, 16))
    with pytest.raises(UsageError, match=said):
        find_blocks(model, 16, (tap,))


class Overwriting(nn.Module):
    """What its first two blocks put out is changed in place by the code around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, 1)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, 2, 1) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.a(self.stem(x)), inplace=True)
        x = self.b(x).add_(1.0)
        x = self.c(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def test_what_a_network_overwrites_is_kept() -> None:
    torch.manual_seed(0)
    model = Overwriting().eval()
    blocks = find_blocks(model, 16)
    assert [(b.name, b.overwritten) for b in blocks] == [("a", True), ("b", True), ("c", False)]
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = model.a(model.stem(images))
        _, tapped = Taps(model, blocks).run(images)
        assert torch.equal(tapped[0], before)
        assert before.min() < 0  # which the ReLU would have removed
        for k in (1, 2, 3):
            cut = truncate(model, blocks[:k])(images)
            assert all(torch.equal(cut[b.name], tap) for b, tap in zip(blocks[:k], tapped, strict=False))


class Branching(nn.Module):
    """A block whose path depends on its input."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y if y.sum() > 0 else -y


def test_a_cut_does_not_mind_what_happens_inside_a_block() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), Branching(3), Branching(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    blocks = find_blocks(model.eval(), 16)
    assert [b.name for b in blocks] == ["1", "2"]
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(truncate(model, blocks)(images)["2"], model[:3](images))


def test_layouts_become_maps() -> None:
    x = torch.randn(2, 5, 3, 3)
    assert to_map(Block("a", 5, 3), x) is x
    assert torch.equal(to_map(Block("a", 5, 3, "nhwc"), x.permute(0, 2, 3, 1)), x)
    tokens = torch.cat([torch.randn(2, 2, 5), x.flatten(2).transpose(1, 2)], 1)  # two before the map
    assert torch.equal(to_map(Block("a", 5, 3, "tokens"), tokens), x)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("timm:deit_tiny_patch16_224", Block("norm", 192, 2, "tokens")),
        ("timm:vit_tiny_patch16_224", Block("norm", 192, 2, "tokens")),
        ("timm:swin_tiny_patch4_window7_224", Block("layers.2", 384, 2, "nhwc")),
    ],
)
def test_transformers(name: str, block: Block) -> None:
    model = build_model(ModelSpec.for_images(name, 3, 32)).eval()
    assert find_blocks(model, 32)[-1] == block
    with torch.no_grad():
        _, (features,) = Taps(model, [block]).run(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, block.channels, block.size, block.size)


def test_a_class_token_is_no_part_of_the_map() -> None:
    model = build_model(ModelSpec.for_images("timm:vit_tiny_patch16_224", 3, 32)).eval()
    kept = []
    model.norm.register_forward_hook(lambda _m, _i, output: kept.append(output))
    with torch.no_grad():
        _, (features,) = Taps(model, find_blocks(model, 32)).run(torch.randn(2, 3, 32, 32))
    assert kept[-1].shape == (2, 5, 192)
    assert torch.equal(features.flatten(2).transpose(1, 2), kept[-1][:, 1:])


def test_a_transformer_can_be_cut_and_keeps_a_free_batch() -> None:
    model = build_model(ModelSpec.for_images("timm:vit_tiny_patch16_224", 3, 32)).eval()
    blocks = find_blocks(model, 32, ("blocks.0", "blocks.1"))
    folded = FoldedImf(model, blocks, [IfdShape(4, 2, 0, 4)] * 2, 3).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(folded, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(program.module()(images), folded(images), atol=1e-6)
