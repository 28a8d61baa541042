from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from rich.console import Console

from imf_deploy.errors import ImfDeployError
from imf_deploy.inspection import Finding, inspect
from imf_deploy.inspection.render import render


def printed(finding: Finding, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(finding))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def test_everything_that_matters_of_an_onnx_file_fits_80_columns(run: Path) -> None:
    text = printed(inspect(run / "deploy" / "resnet8-imf@1-fp16.onnx"))
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "the product imf@1 of resnet8 as ONNX in fp16",
        "images: float32 [batch, 3, 16, 16]",
        "Conv ",
        "belongs to this content",
        "labels 3: class0, class1, class2",
        "of 18 images, same class as PyTorch",
        "pass, ",
    ):
        assert words in unwrapped(text)


def test_a_run_is_a_table(run: Path) -> None:
    text = printed(inspect(run))
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if line.startswith("deploy/resnet8-imf@1-fp32.onnx"))
    assert "matches" in row
    assert "pass" in row
    assert "bench and report: done" in text


@pytest.mark.parametrize(
    "path", ["distilled.safetensors", "run.json", "report.json", "distilled.safetensors.json"]
)
@pytest.mark.parametrize("width", [40, 200])
def test_everything_prints_at_any_width(run: Path, path: str, width: int) -> None:
    assert path in printed(inspect(run / path), width).replace("\n", "")


def test_foreign_names_steer_no_terminal(foreign_onnx: Path) -> None:
    model = onnx.load(foreign_onnx)
    model.producer_name = "[red]x\x1b[2J\u202e\r"
    onnx.save(model, foreign_onnx)
    text = printed(inspect(foreign_onnx))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"[red]x\x1b[2J\u202e\r 7" in text


def test_a_record_full_of_nonsense_prints(run: Path) -> None:
    sidecar = run / "deploy" / "resnet8-imf@1-fp32.onnx.json"
    sidecar.write_text(
        '{"schema": "0.2.0", "sha256": "x", "kind": "onnx", "format": "onnx", "inputs": [1], "outputs": "y",'
        ' "preprocess": {"labels": 5}, "product": {"a": []}, "evidence": {"verify": {"accuracy": 0.5,'
        ' "accuracy_interval": ["a"], "status": ["?"], "reason": {}, "agreement": null}, "big_bytes": 1'
        + "0" * 400
        + ', "nan": NaN}}'
    )
    text = printed(inspect(run / "deploy" / "resnet8-imf@1-fp32.onnx"))
    assert "Its sidecar cannot be used" in text
    assert "Its record" not in text


def test_settings_of_any_name_and_type_print(run: Path) -> None:
    names = (
        "verify",
        "inputs",
        "outputs",
        "operators",
        "preprocess",
        "metadata",
        "files",
        "tensors",
        "settings",
    )
    for value in (5, "x", [1], {"a": []}, {"status": None}, [{"name": 1}]):
        (run / "run.json").write_text(json.dumps({"config": dict.fromkeys(names, value)}))
        text = printed(inspect(run / "run.json"))
        assert all(name in text for name in names)


def test_deep_nesting_is_refused_before_it_exhausts_the_stack(run: Path, foreign_onnx: Path) -> None:
    deep = "[" * 500 + "]" * 500
    (run / "deep.json").write_text(f'{{"a": {deep}}}')
    with pytest.raises(ImfDeployError, match="nested too deeply"):
        inspect(run / "deep.json")
    model = onnx.load(foreign_onnx)
    model.metadata_props.add(key="labels", value=deep)
    onnx.save(model, foreign_onnx)
    found = inspect(foreign_onnx)
    assert found.facts["metadata"]["labels"] == deep
    assert found.to_dict()["facts"]["metadata"]["labels"] == deep
    assert printed(found)


LONG = 3_000_000


def huge(what: str) -> Finding:
    facts: dict[str, Any] = {
        "text": {"metadata": {"preprocess": "[" * LONG}},
        "key": {"metadata": {"k" * LONG: "v"}},
        "keys": {"metadata": {f"k{index}": "v" for index in range(20_000)}},
        "nested": {"config": {"a": {f"k{index}": "v" * 1000 for index in range(1000)}}},
        "inputs": {"inputs": [{"name": "n" * LONG, "type": "float32", "shape": [1] * 10_000}] * 1000},
        "list": {"labels": ["x" * LONG] * 3},
        "tensors": {"tensors": [{"name": "n" * LONG, "dtype": "F32", "shape": [1] * 10_000}]},
        "operators": {"operators": {"O" * LONG: 1}},
        "fact": {"k" * LONG: 1},
    }.get(what, {})
    title = "t" * LONG if what == "title" else "a file"
    warnings = ["w" * LONG] * 1000 if what == "warnings" else []
    return Finding(Path("a.onnx"), "onnx", title, facts, None, warnings)


@pytest.mark.parametrize(
    "what",
    ["text", "key", "keys", "nested", "inputs", "list", "tensors", "operators", "fact", "title", "warnings"],
)
def test_what_a_terminal_would_wrap_for_minutes_is_cut(what: str) -> None:
    shown = printed(huge(what))
    assert len(shown) < 40_000
    # Names in the first column are cut at the width of the terminal.
    assert what in ("tensors", "fact") or "--json has them all" in unwrapped(shown)
