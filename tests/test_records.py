"""Records that may be anybody's: each damaged one is refused in one short sentence, by whoever reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError
from imf_deploy.forms import departure
from imf_deploy.models import Block
from imf_deploy.models.blocks import read_block
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
        (lambda c: c.update(kind=3), "kind is not text"),
        (lambda c: c.update(model=[]), "model is not an object"),
        (lambda c: c.update(inputs={"x": 1}), "inputs.x is not a list"),
        (lambda c: c.update(inputs={"x": [None]}), r"inputs.x\[0\] is not a whole number"),
        (lambda c: c["evidence"].update(macs="many"), "evidence.macs is not a whole number"),
        (lambda c: c["evidence"].update(macs=10**30), "evidence.macs is not a whole number"),
        (lambda c: c["evidence"].update(parameters=True), "evidence.parameters is not a whole number"),
        (lambda c: c["evidence"].update(accuracy=[1.0]), "evidence.accuracy is not a number"),
        (lambda c: c["evidence"].update(data_config="data"), "evidence.data_config is not an object"),
        (lambda c: c["evidence"]["strip"].pop("ladder"), "evidence.strip lacks ladder"),
        (lambda c: c["evidence"]["strip"].update(removed={}), "evidence.strip.removed is not a list"),
        (lambda c: c["evidence"].update(history=[{"epoch": "1"}]), "history.0..epoch is not a number"),
        (lambda c: c.update(surplus=1), "unexpected keyword"),
        (lambda c: c.pop("path"), "'path'"),
        (lambda c: c.update(evidence={"x\x1b[2J" * 9999: 1, "macs": None}), "evidence.macs"),
    ],
)
def test_a_damaged_record(product: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    spoil(product, change)
    with pytest.raises(ImfDeployError, match=said) as caught:
        load_artifact(product)
    assert "is damaged" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(product))


def test_further_keys_are_kept(product: Path) -> None:
    spoil(product, lambda c: c["evidence"].update(later={"a": [1]}))
    assert load_artifact(product).evidence["later"] == {"a": [1]}


@pytest.mark.parametrize(
    "block",
    [
        None, [], {}, {"name": "a", "channels": "3", "size": 4}, {"name": "a", "channels": 0, "size": 4},
        {"name": "a", "channels": 3, "size": -1}, {"name": "a", "channels": 10**12, "size": 4},
        {"name": "a", "channels": 3, "size": 4, "layout": "chw"}, {"name": "a", "channels": 3.0, "size": 4},
        {"name": ["a"], "channels": 3, "size": 4}, {"name": "a", "channels": 3, "size": 4, "surplus": 1},
    ],
)  # fmt: skip
def test_a_damaged_block(block: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_block(block)
    assert read_block({"name": "a", "channels": 3, "size": 4}) == Block("a", 3, 4)


def test_numbers_that_are_not_finite_are_null() -> None:
    content = '{"a": 1e400, "b": -1e999, "c": [NaN, Infinity, -Infinity], "d": 1e308, "e": -0.5, "f": 7}'
    read = parse_json(content, "it")
    assert read == {"a": None, "b": None, "c": [None] * 3, "d": 1e308, "e": -0.5, "f": 7}
    assert isinstance(read["f"], int)


def test_a_form_names_the_place() -> None:
    form = dict[str, list[dict[str, int | None]]]
    assert departure({"a": [{"b": 1, "c": None}]}, form) == ""
    assert departure({"a": [{"b": 1}, {"c": "1"}]}, form, "it") == "it.a[1].c is not a whole number"
    assert len(departure({"x" * 5000: 1}, form)) < 100
