from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import preloaded
import pytest
import torch

from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.calib.score import content_logits, file_logits, score
from imf_deploy.data import DataSet
from imf_deploy.data.choice import choose_images
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.making import Score
from imf_deploy.settings.quantize import Method

Make = Callable[..., Path]


def test_minmax_is_what_the_activations_are(
    model: FloatModel, ranges: Ranges, many: DataSet, whole: Path
) -> None:
    logits = file_logits(whole, model, many.train)
    assert ranges["logits"] == pytest.approx((min(logits.min(), 0), max(logits.max(), 0)), rel=1e-5)
    pixels = many.preprocess.normalize(many.train.fetch(torch.arange(len(many.train))))
    assert ranges["images"] == pytest.approx((float(pixels.min()), float(pixels.max())), rel=1e-6)


def test_every_float_activation_has_a_range(model: FloatModel, ranges: Ranges) -> None:
    produced = {name for node in model.proto.graph.node for name in node.output}
    assert produced <= set(ranges)


@pytest.mark.parametrize("method", get_args(Method))
def test_ranges_lie_within_the_extremes(
    model: FloatModel, ranges: Ranges, many: DataSet, method: Method
) -> None:
    found = measure_ranges(model, many.train, method)
    assert found.keys() == ranges.keys()
    for name, (low, high) in found.items():
        assert ranges[name][0] <= low <= 0 <= high <= ranges[name][1]
    # Entropy may well keep all of these.
    assert (found == ranges) == (method == "minmax") or method == "entropy"


def test_an_outlier_that_minmax_ruins_and_percentile_saves(make_file: Make, many: DataSet) -> None:
    images = choose_images(many.train, 96, 0)
    pixels = many.preprocess.normalize(images.fetch(torch.arange(96)))
    mix = torch.tensor([0.7, -1.1, 0.4])
    seen = (pixels * mix.view(1, 3, 1, 1)).sum(1).flatten().sort().values

    def change(net: Any) -> None:
        # Channel 0 fires on the four strongest of 24,576 pixels, far above all else; nobody reads it.
        net.first.weight[0] = 0
        net.first.weight[0, :, 1, 1] = mix * 1e6
        net.first.bias[0] = -seen[-5] * 1e6
        net.second.weight[:, 0] = 0

    model = open_float_model(make_file("outlier", change))
    reference = file_logits(model.artifact.path, model, many.validation)
    labels = many.validation.labels.numpy()
    results = {}
    methods: tuple[Method, ...] = ("minmax", "percentile")
    for method in methods:
        found = measure_ranges(model, images, method)
        content = quantize(model, found, "onnxruntime-cpu")
        results[method] = score(content_logits(content, model, many.validation), reference, labels)

    def fallen(found: Score) -> float:
        return found.float_accuracy - found.accuracy

    assert fallen(results["percentile"]) <= 0.01
    assert results["percentile"].agreement >= 0.97
    assert fallen(results["minmax"]) > 0.1
    assert results["minmax"].agreement < 0.9


def test_not_finite(make_file: Make, many: DataSet) -> None:
    def change(net: Any) -> None:
        net.second.bias[3] = float("inf")

    model = open_float_model(make_file("inf", change))
    with pytest.raises(ImfDeployError, match="is not finite on a calibration image"):
        measure_ranges(model, many.train, "minmax")


def test_a_batch_of_one(whole: Path, many: DataSet, ranges: Ranges, tmp_path: Path) -> None:
    proto = onnx.load(whole)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "one.onnx")
    found = measure_ranges(open_float_model(tmp_path / "one.onnx"), many.train, "minmax")
    for name, ends in found.items():
        assert ends == pytest.approx(ranges[name], rel=1e-4, abs=1e-5)


def test_another_fixed_batch(whole: Path, tmp_path: Path) -> None:
    proto = onnx.load(whole)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, tmp_path / "four.onnx")
    with pytest.raises(UsageError, match="accepts only batches of 4"):
        open_float_model(tmp_path / "four.onnx")


_MEASURE = """
import resource, sys, torch
from pathlib import Path
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.data import Split
from imf_deploy.data.dataset import MemoryImages

model = open_float_model(Path(sys.argv[1]))
size = model.preprocess.size
peaks = []
for count in (32, 32, 256):
    pixels = torch.randint(0, 255, (count, 3, size, size), dtype=torch.uint8)
    images = Split.whole(MemoryImages(pixels, torch.zeros(count, dtype=torch.int64)))
    measure_ranges(model, images, sys.argv[2])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(*peaks)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_memory_does_not_grow_with_the_number_of_images(
    method: str, write_onnx: Make, tmp_path: Path
) -> None:
    # 16 x 16 pixels, 256 channels, eight tensors: 2 MB an image, 450 MB for what comes on top.
    wide = torch.nn.Sequential(
        *(torch.nn.Sequential(torch.nn.Conv2d(c, 256, 1), torch.nn.ReLU()) for c in (3, 256, 256, 256)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(256, 3),
    )
    path = write_onnx(tmp_path / "wide.onnx", wide)
    done = preloaded.run(["-c", _MEASURE, str(path), method], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, few, many = (int(value) for value in done.stdout.split())
    assert many - few < 100
    assert np.isfinite(few)
