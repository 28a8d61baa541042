"""Records that may be anybody's: each damaged one is refused in one short sentence, by whoever reads it."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError
from imf_deploy.records.files import DistilledFile, ProductFile
from imf_deploy.untrusted import parse_json


@pytest.fixture
def product(finished_run: Path, tmp_path: Path) -> Path:
    """A product's weights and their record, which may be spoilt."""
    folder = Path(shutil.copytree(finished_run / "products", tmp_path / "products"))
    return next(folder.glob("*.safetensors"))


def spoil(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = path.with_name(path.name + ".json")
    content = json.loads(record.read_bytes())
    change(content)
    record.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(kind=3), "kind should be one of"),
        (lambda c: c.update(kind="other"), "kind should be one of teacher, distilled, product, onnx, engine"),
        (lambda c: c.update(model=[]), "model should be a valid dictionary|model should be an object"),
        (lambda c: c.update(macs="many"), "macs should be a valid integer"),
        (lambda c: c.update(macs=10**30), "macs should be less than or equal to"),
        (lambda c: c.update(macs=1.5), "macs should be a valid integer"),
        (lambda c: c.update(parameters=True), "parameters should be a valid integer"),
        (lambda c: c.update(accuracy=[1.0]), "accuracy should be a valid number"),
        (lambda c: c.update(accuracy=1e300), "accuracy should be less than or equal to"),
        (lambda c: c.update(data_config="data"), "data_config should be"),
        (lambda c: c["strip"].pop("ladder"), "strip.ladder: Field required"),
        (lambda c: c["strip"].update(removed={}), "strip.removed should be a valid array"),
        (
            lambda c: c["strip"]["ladder"][0].update(status="fine"),
            r"strip.ladder\[0\].status should be 'pass'",
        ),
        (lambda c: c["strip"]["removed"].append({"module": 1, "parameters": 1}), r"removed\[\d+\].module"),
        (lambda c: c.update(history=[{"epoch": "1"}]), r"history\[0\].epoch should be a valid number"),
        (
            lambda c: c.update(history=[{"epoch": 10**400}]),
            r"history\[0\].epoch should be|history\[0\].epoch",
        ),
        (lambda c: c.update(history=[{"x\x1b[2J\n" * 999: "1"}]), r"history\[0\].x"),
        (
            lambda c: c["preprocess"].update(std=[0.1, 0.1, 0]),
            r"preprocess.std\[2\] should be greater than 0",
        ),
        (lambda c: c["preprocess"].update(labels=[]), "preprocess.labels"),
        (lambda c: c["preprocess"].pop("mean"), "preprocess.mean: Field required"),
        (lambda c: c.pop("path"), "path: Field required"),
        (lambda c: c.pop("sha256"), "sha256: Field required"),
    ],
)
def test_a_damaged_record(product: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    spoil(product, change)
    with pytest.raises(ImfDeployError, match=said) as caught:
        load_artifact(product)
    assert "is damaged" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(product))
    assert not {"\x1b", "\n"} & set(str(caught.value))


def test_further_keys_are_dropped(product: Path) -> None:
    known = load_artifact(product)
    spoil(product, lambda c: (c.update(later={"a": [1]}), c["strip"].update(more=1)))
    assert load_artifact(product) == known


@pytest.mark.parametrize(
    ("field", "value"), [("inputs", {"x": 1}), ("inputs", {"x": [None]}), ("opset", "1")]
)
def test_a_damaged_record_of_an_onnx_file(finished_run: Path, tmp_path: Path, field: str, value: Any) -> None:
    folder = Path(shutil.copytree(finished_run / "deploy", tmp_path / "deploy"))
    path = next(folder.glob("*.onnx"))
    spoil(path, lambda c: c.update({field: value}))
    with pytest.raises(ImfDeployError, match=rf"is damaged \({field}.* should be"):
        load_artifact(path)


def test_a_file_of_another_kind(product: Path) -> None:
    assert isinstance(load_artifact(product), ProductFile)
    with pytest.raises(
        ImfDeployError,
        match=r"a stripped student, not a distilled student\. Use a file of imf-deploy distill",
    ):
        load_artifact(product, DistilledFile)


def test_what_is_written_is_read(product: Path) -> None:
    known = load_artifact(product, ProductFile)
    assert known.strip
    odd = known.revised(strip=replace(known.strip, max_abs_diff=math.inf), accuracy=0.1 + 0.2)
    read = load_artifact(odd.save().path, ProductFile)
    assert read.accuracy == odd.accuracy
    assert read.strip
    assert math.isnan(read.strip.max_abs_diff)  # JSON has no infinity
    assert read.revised(strip=known.strip) == known.revised(accuracy=odd.accuracy)


def test_a_proof_is_judged_by_what_it_holds(product: Path) -> None:
    spoil(product, lambda c: c["strip"].update(teacher_tensors_found=1, passed=True))
    proof = load_artifact(product, ProductFile).strip
    assert proof
    assert not proof.passed
    assert "teacher" in proof.broken


def test_numbers_that_are_not_finite_are_null() -> None:
    content = '{"a": 1e400, "b": -1e999, "c": [NaN, Infinity, -Infinity], "d": 1e308, "e": -0.5, "f": 7}'
    read = parse_json(content, "it")
    assert read == {"a": None, "b": None, "c": [None] * 3, "d": 1e308, "e": -0.5, "f": 7}
    assert isinstance(read["f"], int)
