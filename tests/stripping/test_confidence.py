"""Calibrated confidences: folded into the last layer, proved, and the same classes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from imf_deploy.api.data import data_set
from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, Split
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.products import load_product
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import ProductFile
from imf_deploy.stripping.confidence import calibrate_confidence, last_linear
from imf_deploy.stripping.stage import prove, strip, strip_in_memory

PREPROCESS = Preprocess(32, "none", 32, (0.5,) * 3, (0.5,) * 3, tuple("abcdefghij"))
Make = Callable[[str], Distilled]


def validation(network: nn.Module, images: int = 60) -> DataSet:
    """Return noise images of which a network is right on two thirds."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    with torch.inference_mode():
        chosen = network.eval()(PREPROCESS.normalize(pixels)).argmax(1)
    labels = torch.where(torch.arange(images) % 3 == 0, (chosen + 1) % 10, chosen)
    return replace(
        data_set(PREPROCESS, validation=Split.whole(MemoryImages(pixels, labels))), fingerprint="fixed"
    )


def logits(network: nn.Module, data: DataSet) -> Tensor:
    images = data.preprocess.normalize(data.validation.fetch(torch.arange(len(data.validation))))
    with torch.inference_mode():
        return network.eval()(images)


def test_products_with_calibrated_confidences(make_distilled: Make, tmp_path: Path) -> None:
    distilled = make_distilled("resnet18")
    data = validation(distilled.graph.student)
    before = strip(distilled, ["plain", "imf@2"], tmp_path / "before")
    made = strip(distilled, ["plain", "imf@2"], tmp_path / "made", calibration=data)
    for old, new in zip(before, made, strict=True):
        found = new.confidence
        assert found
        assert found.temperature not in (0.0, 1.0)
        assert found.nll_after < found.nll_before
        assert found.images == 60
        one, other = load_product(old.path).module, load_product(new.path).module
        own, scaled = logits(one, data), logits(other, data)
        assert torch.allclose(scaled, own / found.temperature, rtol=1e-4, atol=1e-5)
        assert torch.equal(scaled.argmax(1), own.argmax(1))
        proof = new.strip
        assert proof
        assert proof.passed
        assert [rung.name for rung in proof.ladder] == [*(r.name for r in old.strip.ladder), "calibrated"]
        # Everything but the last layer is the training graph's, to the bit.
        assert proof.ladder[0].max_abs_diff == old.strip.ladder[0].max_abs_diff
        assert load_artifact(new.path, ProductFile) == new
        nll = torch.nn.functional.cross_entropy(scaled.double(), data.validation.labels)
        assert found.nll_after == pytest.approx(float(nll), rel=1e-5)
    library = torchvision.models.resnet18(num_classes=10)
    library.load_state_dict(load_file(made[0].path), strict=True)
    # The distilled student itself keeps its confidences.
    assert torch.equal(
        logits(distilled.graph.student, data), logits(load_product(before[0].path).module, data)
    )
    assert strip(distilled, ["plain"], tmp_path / "made", calibration=data) == made[:1]
    with pytest.raises(UsageError, match="already exists"):
        strip(distilled, ["plain"], tmp_path / "made")


def test_a_last_layer_that_was_changed_breaks_the_proof(make_distilled: Make) -> None:
    distilled = make_distilled("resnet8")
    (product,) = strip_in_memory(distilled, ["plain"], calibration=validation(distilled.graph.student))
    confidence, images = product.artifact.confidence, torch.randn(4, 3, 32, 32)
    assert confidence
    assert prove(distilled, "plain", product.module, images, confidence).passed
    wrong = replace(confidence, temperature=confidence.temperature * 1.01)
    broken = prove(distilled, "plain", product.module, images, wrong)
    assert not broken.passed
    assert "calibrated" in broken.broken


class Squared(nn.Module):
    """A linear layer whose output is not that of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.mean((2, 3))) ** 2


class Tied(nn.Module):
    """A last layer whose weights are also used before it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.fc(images.flatten(1)[:, :10]))


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.mean((2, 3)))


@pytest.mark.parametrize("network", [Squared(), Tied(), Weighted()], ids=lambda each: type(each).__name__)
def test_last_layers_that_are_refused(network: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"the last layer of net is not linear.*`calibrate_confidence`"):
        last_linear(network, PREPROCESS, "net")


def test_squeezenet_ends_in_a_pooled_convolution() -> None:
    network = build_model(ModelSpec("squeezenet1_1", 10, 32))
    with pytest.raises(UsageError, match="the last layer of squeezenet1_1 is not linear"):
        last_linear(network, PREPROCESS, "squeezenet1_1")


@pytest.mark.parametrize(
    ("name", "layer"),
    [("mobilenetv2", "classifier.1"), ("cifar:vgg8", "head.linear"), ("densenet121", "classifier")],
)
def test_last_layers_of_the_libraries(name: str, layer: str) -> None:
    assert last_linear(build_model(ModelSpec.for_images(name, 10, 32)), PREPROCESS, name) == layer


def test_exact_ties_stay_ties() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    with torch.no_grad():
        network[2].weight[1:] = network[2].weight[:1] / 3
        network[2].bias[1:] = network[2].bias[:1] / 3
    data = validation(network)
    before = logits(network, data)
    calibrate_confidence(network, data, "net")
    after = logits(network, data)
    largest = [values == values.max(1, keepdim=True).values for values in (before, after)]
    assert torch.equal(*largest)
    assert largest[0].sum() > len(before)


def test_what_cannot_be_calibrated(make_distilled: Make) -> None:
    distilled = make_distilled("resnet8")
    with pytest.raises(UsageError, match="needs validation images, but there are none"):
        strip_in_memory(distilled, ["plain"], calibration=data_set(PREPROCESS))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    data = validation(network)
    with torch.no_grad():
        network[2].bias[0] = np.nan
    with pytest.raises(ImfDeployError, match="some logits of net are not finite"):
        calibrate_confidence(network, data, "net")


def test_a_temperature_at_its_bound_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    data = validation(network)
    images = data.preprocess.normalize(data.validation.fetch(torch.arange(len(data.validation))))
    with torch.inference_mode():
        chosen = network(images).argmax(1)
    right = replace(
        data, validation=Split.whole(MemoryImages(data.validation.fetch(torch.arange(60)), chosen))
    )
    with caplog.at_level(logging.WARNING):
        assert calibrate_confidence(network, right, "net").temperature == pytest.approx(0.05, rel=0.01)
    assert "the temperature of net is at its bound, 0.05: its validation images are all right" in caplog.text
