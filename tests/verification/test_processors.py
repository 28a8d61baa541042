"""INT8 files must pass their gate on emulated processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_onnx import save_record
from torch import nn

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet, open_data
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.records.checks import Portability, Verification
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings import DataSettings, Gate, QuantizeSettings
from imf_deploy.verification.processors import describe as describe_processors
from imf_deploy.verification.processors import judge

LOOSE = Gate(100, 0)


class Dense(nn.Module):
    """One dense convolution with weights of one sign, which saturate everywhere at full range."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.head = nn.Linear(32, 3)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.conv.weight.uniform_(0.5, 1, generator=generator)
            self.conv.weight[:, :, 1, 1] -= 1.5 * torch.rand(32, 3, generator=generator)
            self.head.weight.normal_(generator=generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.conv(images).relu().mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def folder(make_images, tmp_path_factory: pytest.TempPathFactory) -> DataSet:  # type: ignore[no-untyped-def]
    place = make_images(tmp_path_factory.mktemp("some") / "some", {"train": 20, "val": 10, "test": 10})
    return open_data(DataSettings(str(place)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    return Dense().eval()


@pytest.fixture(scope="module")
def float_file(network: nn.Module, folder: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "dense-plain-fp32.onnx"
    export_onnx(network, path, "fp32", 16, {})
    save_record(path, "dense", folder)
    return path


def made(float_file: Path, folder: DataSet, output: Path, cpus: str) -> OnnxFile:
    config = QuantizeSettings(images=30, gate=LOOSE, rank=False, int8_cpus=cpus, keep_int8=True)  # type: ignore[arg-type]
    return calibrate(float_file, folder, config, output)


@pytest.fixture(scope="module")
def reference(network: nn.Module, folder: DataSet) -> np.ndarray:
    images = folder.preprocess.normalize(folder.test.fetch(torch.arange(len(folder.test))))
    with torch.inference_mode():
        logits: np.ndarray = network(images).numpy()
    return logits


def measured(file: OnnxFile, portability: Portability) -> OnnxFile:
    found = Verification(status="pass", reason=None, gate=LOOSE, ladder=[], portability=portability)
    return file.revised(verify=found)


def test_a_file_for_all_processors_is_portable(
    float_file: Path, folder: DataSet, reference: np.ndarray, tmp_path: Path
) -> None:
    file = made(float_file, folder, tmp_path, "all")
    assert load_artifact(file.path) == file
    assert file.calibration
    assert file.calibration.cpus == "all"
    record, reason = judge(file, folder.test, folder.preprocess, reference, Gate(1, 0.99))
    assert (record.status, record.cpus, record.images, reason) == ("portable", "all", 0, "")
    (sentence,) = describe_processors([measured(file, record)])
    assert sentence == f"INT8 portable: no input can make a sum saturate, on any processor: {file.path.name}"


def test_a_file_for_vnni_differs_elsewhere_and_says_what_it_is_for(
    float_file: Path, folder: DataSet, reference: np.ndarray, tmp_path: Path
) -> None:
    file = made(float_file, folder, tmp_path, "vnni")
    record, reason = judge(file, folder.test, folder.preprocess, reference, Gate(1, 0.99))
    assert (record.status, record.cpus, record.images, reason) == ("differs", "vnni", 30, "")
    assert record.layers >= 1
    assert (record.agreement or 0) < 1
    (sentence,) = describe_processors([measured(file, record)])
    assert "different outputs" in sentence
    assert "made for processors with VNNI" in sentence


def test_a_file_that_differs_is_held_to_its_gate(
    float_file: Path, folder: DataSet, reference: np.ndarray, tmp_path: Path
) -> None:
    """A file with full-range weights whose record does not say that it is for processors with VNNI."""
    file = made(float_file, folder, tmp_path, "vnni")
    assert file.calibration
    older = file.revised(calibration=replace(file.calibration, cpus="all"))
    record, reason = judge(older, folder.test, folder.preprocess, reference, Gate(100, 1))
    assert record.status == "differs"
    assert reason.startswith("on x86 processors without VNNI")
    assert "top-1 agreement" in reason
    assert judge(older, folder.test, folder.preprocess, reference, LOOSE)[1] == ""
    metric = replace(LOOSE, gate={"nll": 0.0, "recall:none": 0.0})
    some = folder.test.labels != 0  # a class without images cannot be judged on these
    labels = ("none", *folder.preprocess.labels[1:])
    part, own = folder.test.subset(some.nonzero().flatten()), replace(folder.preprocess, labels=labels)
    reason = judge(older, part, own, reference[some.numpy()], metric)[1]
    assert "negative log-likelihood rises by" in reason
