"""The CIFAR networks: as many parameters as published, and stages where the papers have them."""

import pytest
import torch

from imf_deploy.models import ModelSpec, build_model, student_blocks
from imf_deploy.models.cifar import NETWORKS
from imf_deploy.models.cifar.shufflenet import CifarShuffleNet

# Millions of parameters with 100 classes, as the literature that follows Tian et al. 2019 gives them;
# and the side of each block's output for pictures of 32 pixels.
PUBLISHED = {
    "resnet8": (0.08, [32, 16, 8]), "resnet14": (0.18, [32, 16, 8]), "resnet20": (0.28, [32, 16, 8]),
    "resnet32": (0.47, [32, 16, 8]), "resnet44": (0.67, [32, 16, 8]), "resnet56": (0.86, [32, 16, 8]),
    "resnet110": (1.74, [32, 16, 8]), "resnet8x4": (1.23, [32, 16, 8]), "resnet32x4": (7.43, [32, 16, 8]),
    "resnet50": (23.71, [32, 16, 8, 4]),
    "wrn-16-1": (0.18, [32, 16, 8]), "wrn-16-2": (0.70, [32, 16, 8]), "wrn-40-1": (0.57, [32, 16, 8]),
    "wrn-40-2": (2.26, [32, 16, 8]),
    "vgg8": (3.97, [16, 8, 4]), "vgg13": (9.46, [32, 16, 8, 4]),
    "mobilenetv2": (0.81, [16, 8, 4, 2]),
    "shufflenetv1": (0.95, [16, 8, 4]), "shufflenetv2": (1.36, [16, 8, 4]),
}  # fmt: skip


def test_every_network_has_a_published_size() -> None:
    assert set(NETWORKS) - set(PUBLISHED) == {"resnet14x2"}  # ours, the packaged teacher's


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_stages(name: str) -> None:
    millions, sizes = PUBLISHED[name]
    spec = ModelSpec.for_images(f"cifar:{name}", 100, 32)
    model = build_model(spec)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    assert [block.size for block in student_blocks(model, spec)] == sizes


@pytest.mark.parametrize("version", [1, 2])
def test_shuffling_mixes_the_groups(version: int) -> None:
    torch.manual_seed(0)
    stage = CifarShuffleNet(version, 2).stages[0].eval()
    images = torch.randn(1, 24, 8, 8, requires_grad=True)
    stage(images)[:, -1].sum().backward()
    assert images.grad is not None
    # The last channel hears of every input channel.
    assert (images.grad.abs().sum((0, 2, 3)) > 0).all()
