"""Feature maps are recognised by their proportions, whatever the shape of the images."""

from typing import Any

import pytest
import torch

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.branches import Taps
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks, to_map
from imf_deploy.models.maps import PREFIXES, map_of


@pytest.mark.parametrize(
    ("image", "shape", "found"),
    [
        ((24, 40), (16, 12, 20), ((12, 20), "nchw")),
        ((24, 40), (96, 2, 3), ((2, 3), "nchw")),  # rounded up
        ((24, 40), (96, 1, 2), ((1, 2), "nchw")),  # rounded down
        ((24, 40), (96, 1, 1), (1, "nchw")),
        ((24, 40), (3, 5, 96), ((3, 5), "nhwc")),
        ((24, 40), (12, 20, 96), ((12, 20), "nhwc")),
        ((24, 40), (44, 24), None),
        ((24, 40), (96, 20, 12), None),
        ((24, 40), (4, 15, 15), None),  # attention between patches
        ((40, 24), (96, 10, 6), ((10, 6), "nchw")),
        ((299, 149), (768, 17, 7), ((17, 7), "nchw")),  # without padding
        ((32, 32), (16, 8, 8), (8, "nchw")),
        ((32, 32), (16, 8, 7), None),
        ((24, 40), (15, 192), ((3, 5), "tokens")),
        ((24, 40), (16, 192), ((3, 5), "tokens")),  # after a class token
        ((24, 40), (17, 192), ((3, 5), "tokens")),
        ((24, 40), (18, 192), None),
        ((32, 32), (17, 192), (4, "tokens")),
    ],
)
def test_shapes(image: tuple[int, int], shape: tuple[int, ...], found: Any) -> None:
    block = map_of("a", torch.zeros(1, *shape), image, PREFIXES)
    assert (block and (block.size, block.layout)) == found
    if block:
        assert block.channels == (shape[0] if block.layout == "nchw" else shape[-1])


FAMILIES = (
    "mobilenetv2", "shufflenetv2", "resnet18", "resnet8", "googlenet", "swin_t", "cifar:vgg8",
    "timm:efficientnet_lite0", "timm:deit_tiny_patch16_224", "timm:levit_128s",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_blocks_are_those_of_square_images(name: str) -> None:
    size = (64, 96)
    spec = ModelSpec.for_images(name, 3, size)
    model = build_model(spec).eval()
    blocks = find_blocks(model, size)
    square = build_model(ModelSpec(name, 3, 64, spec.stem_strides))
    assert [block.name for block in blocks] == [block.name for block in find_blocks(square, 64)]
    with torch.no_grad():
        logits, features = Taps(model, blocks).run(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3)
    for block, tapped in zip(blocks, features, strict=True):
        assert tapped.shape == (2, block.channels, *block.sides)


def test_tokens_become_a_map_row_by_row() -> None:
    x = torch.randn(2, 5, 3, 4)
    tokens = torch.cat([torch.randn(2, 1, 5), x.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(to_map(Block("a", 5, (3, 4), "tokens"), tokens), x)


def test_sizes_that_a_network_cannot_have() -> None:
    with pytest.raises(UsageError, match=r"images of 32x64 pixels \(it takes square images only\)"):
        build_model(ModelSpec.for_images("vit_b_16", 3, (32, 64)))
    with pytest.raises(ImfDeployError, match=r"AlexNet cannot run on images of 96x40 pixels \(.*too small"):
        build_model(ModelSpec("alexnet", 3, (96, 40)))
    with pytest.raises(UsageError, match=r"maxvit_t cannot be built for images of 64x96 pixels"):
        build_model(ModelSpec.for_images("maxvit_t", 3, (64, 96)))


def test_the_shorter_side_decides_on_the_strides() -> None:
    assert ModelSpec.for_images("resnet18", 3, (32, 96)).stem_strides == (2, 1)
    assert ModelSpec.for_images("resnet18", 3, (96, 32)).stem_strides == (2, 1)
    assert ModelSpec.for_images("resnet18", 3, (64, 96)).stem_strides == ()
    spec = ModelSpec("resnet18", 3, (32, 96), (1, 1))
    assert find_blocks(build_model(spec), spec.image_size)[-1].size == (4, 12)
