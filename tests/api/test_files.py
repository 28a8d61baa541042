"""Files of networks that never saw IMF, and of products that lie in memory: exported, quantised, verified."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

import imf_deploy
from imf_deploy import ImfDistiller
from imf_deploy.artifact import load_artifact
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError, ImfDeployError, UsageError
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings import EngineSettings, Gate, QuantizeSettings

LETTERS = ("a", "b", "c")
KEEP = QuantizeSettings(keep_int8=True)
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def trained(student: nn.Module, loader: Batches) -> nn.Module:
    """A network that was trained on labels alone, in somebody's own loop."""
    optimizer = torch.optim.Adam(student.parameters(), 0.02)
    for images, labels in loader * 4:
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(images), labels).backward()
        optimizer.step()
    return student


def run(path: Path, images: Tensor) -> Any:
    return onnxruntime.InferenceSession(str(path)).run(["logits"], {"images": images.numpy()})[0]


def status(record: Any) -> tuple[str, str | None]:
    return record.verify.status, record.verify.reason


def test_any_module_becomes_verified_files(trained: nn.Module, loader: Batches, tmp_path: Path) -> None:
    trained.train()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net-fp32.onnx", image_size=16)
    fp16 = imf_deploy.export_onnx(trained, tmp_path / "net-fp16.onnx", precision="fp16", image_size=16)
    gate = Gate(5.0, 0.9)
    int8 = imf_deploy.quantize(fp32, tmp_path / "net-int8.onnx", loader, loader, gate=gate, settings=KEEP)
    checked = imf_deploy.verify([fp32, fp16, int8], against=trained, data=loader)
    assert [status(record) for record in checked] == [("pass", None)] * 3
    assert trained.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    first, *_, last = checked[2].verify.ladder
    assert (first.name, first.status, first.reason) == (
        "given module", "not-run", "strip: not applicable",
    )  # fmt: skip
    assert (last.name, last.against) == ("ONNX int8 for onnxruntime-cpu", "ONNX fp32")
    with torch.no_grad():
        expected = trained.eval()(loader[0][0]).numpy()
    np.testing.assert_allclose(run(fp32.path, loader[0][0]), expected, rtol=1e-4, atol=1e-4)
    assert load_artifact(int8.path, OnnxFile).product == "module"
    about = onnxruntime.InferenceSession(str(int8.path)).get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == ["0", "1", "2"]
    assert "preprocess" not in about  # nobody said how pictures become tensors
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        name for precision in ("fp32", "fp16", "int8")
        for name in (f"net-{precision}.onnx", f"net-{precision}.onnx.json")
    )  # fmt: skip


def test_a_product_in_memory(student: nn.Module, big: nn.Module, loader: Batches, tmp_path: Path) -> None:
    imf = ImfDistiller(student, big, image_size=16)
    optimizer = torch.optim.SGD(imf.parameters(), 0.02, momentum=0.9)
    for images, labels in loader * 3:
        optimizer.zero_grad()
        imf(images, labels).total.backward()
        optimizer.step()
    small = imf_deploy.strip(imf, ["imf@1"])[0]
    fp32 = imf_deploy.export_onnx(small, tmp_path / "small.onnx")
    checked = imf_deploy.verify(fp32, against=small, data=loader)
    assert status(checked) == ("pass", None)
    names = [rung.name for rung in checked.verify.ladder]
    assert names == ["stripped", "folded", "ONNX fp32"]
    gate = Gate(10.0, 0.8)
    int8 = imf_deploy.quantize(small, tmp_path / "small-int8.onnx", loader, loader, gate=gate, settings=KEEP)
    assert status(imf_deploy.verify(int8, against=small, data=loader, gate=Gate(10.0, 0.8)))[0] == "pass"


def test_a_wrong_network_or_file_is_found(trained: nn.Module, loader: Batches, tmp_path: Path) -> None:
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", image_size=16)
    with torch.no_grad():
        trained.head.weight.add_(0.1)  # type: ignore[union-attr, operator]
    with pytest.raises(ImfDeployError, match="was not made from"):
        imf_deploy.verify(fp32, against=trained, data=loader)
    # Without its record it is somebody's file, and its answers count.
    (tmp_path / "net.onnx.json").unlink()
    with torch.no_grad():
        trained.head.weight.mul_(-1.0)  # type: ignore[union-attr, operator]
    found, reason = status(imf_deploy.verify(tmp_path / "net.onnx", against=trained, data=loader))
    assert found == "fail"
    assert reason
    assert "largest logit difference" in reason


def test_int8_that_misses_its_gate_is_not_written(
    trained: nn.Module, loader: Batches, tmp_path: Path
) -> None:
    dark = [(0.01 * images, labels) for images, labels in loader]
    settings = QuantizeSettings(gate=Gate(0.0, 1.0), max_float_layers=0.0, keep_int8=True)
    with pytest.raises(GateError):
        imf_deploy.quantize(trained, tmp_path / "a.onnx", dark, loader, settings=settings, image_size=16)
    assert not list(tmp_path.iterdir())


def test_an_engine_from_a_module(trained: nn.Module, loader: Batches, tmp_path: Path) -> None:
    fp16 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", precision="fp16", image_size=16)
    engine = imf_deploy.build_engine(
        fp16, tmp_path / "net.engine", EngineSettings(compute_capability=("8.6",))
    )
    assert engine.targets == ["86"]
    checked = imf_deploy.verify([fp16, engine], against=trained, data=loader)
    assert [record.verify.status if record.verify else "" for record in checked] == ["pass", "not-run"]
    with pytest.raises(UsageError, match="75"):
        fp32 = imf_deploy.export_onnx(trained, tmp_path / "whole.onnx", image_size=16)
        imf_deploy.build_engine(fp32, tmp_path / "whole.engine", EngineSettings(compute_capability=("75",)))


class Pairs(Dataset[tuple[Tensor, int]]):
    """A map-style data set without tensors behind it."""

    def __init__(self, batches: Batches) -> None:
        self.images, self.labels = (torch.cat(parts) for parts in zip(*batches, strict=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Stream(IterableDataset[tuple[Tensor, int]]):
    """A data set without random access."""

    def __init__(self, batches: Batches) -> None:
        self.pairs = Pairs(batches)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self.pairs[index] for index in range(len(self.pairs)))


FORMS: dict[str, Any] = {
    "a list of batches": lambda batches: batches,
    "a data set": Pairs,
    "a loader": lambda batches: DataLoader(Pairs(batches), 5),
    "a shuffled loader": lambda batches: DataLoader(Pairs(batches), 5, shuffle=True),
    "a loader with workers": lambda batches: DataLoader(Pairs(batches), 5, num_workers=1),
    "a stream": lambda batches: DataLoader(Stream(batches), 5),
    "tensors": lambda batches: TensorDataset(Pairs(batches).images, Pairs(batches).labels),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_of_data(trained: nn.Module, loader: Batches, tmp_path: Path, form: str) -> None:
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", image_size=16)
    found = imf_deploy.verify(fp32, against=trained, data=FORMS[form](loader)).verify
    with torch.no_grad():
        right = sum(int((trained.eval()(images).argmax(1) == labels).sum()) for images, labels in loader)
    assert found.images == 48
    assert found.pytorch_accuracy == pytest.approx(right / 48)


def test_a_sampler_chooses_the_images(trained: nn.Module, loader: Batches, tmp_path: Path) -> None:
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", image_size=16)
    part = DataLoader(Pairs(loader), 4, sampler=SubsetRandomSampler(range(0, 48, 3)))
    assert imf_deploy.verify(fp32, against=trained, data=part).verify.images == 16


def bad(images: Any, labels: Any) -> Any:
    return [(images, labels)]


IMAGES, LABELS = torch.zeros(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
BAD: dict[str, tuple[Any, str]] = {
    "another size": (bad(torch.zeros(4, 3, 20, 20), LABELS), r"takes \[N, 3, 16, 16\]"),
    "channels last": (bad(torch.zeros(4, 16, 16, 3), LABELS), r"takes \[N, 3, 16, 16\]"),
    "bytes": (bad(IMAGES.byte(), LABELS), "the preprocessing of the network is unknown"),
    "whole numbers": (bad(IMAGES.long(), LABELS), "Use float32 or uint8"),
    "a class too many": (bad(IMAGES, LABELS + 1), "labels from 1 to 3, but the network has 3 classes"),
    "probabilities": (bad(IMAGES, torch.eye(4)[:, :3]), "one integer for each image"),
    "dictionaries": ([{"pixel_values": IMAGES, "labels": LABELS}], "yields dict, not"),
    "nothing": ([], "no images"),
    "a name": ("no-such-data", "neither a folder nor a known data set"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_data_that_does_not_fit_is_refused(trained: nn.Module, tmp_path: Path, case: str) -> None:
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", image_size=16)
    given, message = BAD[case]
    with pytest.raises(ImfDeployError, match=message):
        imf_deploy.verify(fp32, against=trained, data=given)


def test_pictures_of_a_known_preprocessing(big: nn.Module, data: DataSet, tmp_path: Path) -> None:
    fp32 = imf_deploy.export_onnx(big, tmp_path / "net.onnx", preprocess=data.preprocess)
    pixels = data.test.fetch(torch.arange(len(data.test)))
    whole = imf_deploy.verify(fp32, against=big, data=data).verify
    bytes_ = imf_deploy.verify(fp32, against=big, data=[(pixels, data.test.labels)]).verify
    floats = [(data.preprocess.normalize(pixels), data.test.labels)]
    given = imf_deploy.verify(fp32, against=big, data=floats).verify
    for key in ("accuracy", "max_abs_diff", "images", "status"):
        assert getattr(whole, key) == getattr(bytes_, key) == getattr(given, key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "image_size=PIXELS"),
        ({"image_size": 16, "precision": "int8"}, "imf_deploy.quantize makes int8"),
        ({"image_size": 16, "path": "net.pt"}, "ends in .onnx"),
    ],
)
def test_an_export_that_lacks_something(
    student: nn.Module, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    path = tmp_path / arguments.pop("path", "net.onnx")
    with pytest.raises(UsageError, match=message):
        imf_deploy.export_onnx(student, path, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_training_module_is_not_a_product(student: nn.Module, big: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"imf_deploy\.strip"):
        imf_deploy.export_onnx(ImfDistiller(student, big, 16), tmp_path / "a.onnx", image_size=16)


def test_modules_products_and_files_are_timed_side_by_side(
    trained: nn.Module, big: nn.Module, tmp_path: Path
) -> None:
    fp32 = imf_deploy.export_onnx(trained, tmp_path / "net.onnx", image_size=16)
    plain = imf_deploy.strip(ImfDistiller(trained, big, 16), ["plain"])[0]
    result = imf_deploy.bench(
        [trained, plain, fp32], image_size=16, duration=0.05, loads=6, warmup=0.0, startup=True
    )
    assert [row.name for row in result.rows] == ["TinyNet", "TinyNet-plain", "net.onnx"]
    assert all(row.latency.p50 > 0 for row in result.rows)
    assert result.rows[0].start_up == {"reason": "it is in memory"}
    assert result.rows[2].start_up
    assert result.rows[2].sha256 == fp32.sha256
    json.dumps(result.to_dict())
    with pytest.raises(UsageError, match="image_size"):
        imf_deploy.bench([trained])


def test_pictures_need_the_preprocessing_that_a_module_was_exported_without(
    big: nn.Module, data: DataSet, tmp_path: Path
) -> None:
    fp32 = imf_deploy.export_onnx(big, tmp_path / "net-fp32.onnx", image_size=16)
    settings, named = (
        QuantizeSettings(gate=Gate(100.0, 0.0), images=8, keep_int8=True),
        replace(data.preprocess, labels=LETTERS),
    )
    with pytest.raises(UsageError, match="Give its `preprocess`"):
        calibrate(fp32.path, data, settings, tmp_path / "out")
    (tmp_path / "about.json").write_text(json.dumps(asdict(data.preprocess)))
    made = calibrate(fp32.path, data, settings, tmp_path / "out", tmp_path / "about.json")
    assert made.preprocess == data.preprocess
    again = imf_deploy.export_onnx(big, tmp_path / "named-fp32.onnx", preprocess=named)
    with pytest.raises(UsageError, match="contradicts the record"):
        calibrate(again.path, data, settings, tmp_path / "out", tmp_path / "about.json")
