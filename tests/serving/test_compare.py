"""Finished files on labelled images, alone and against each other: classes by name, gates, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from tiny_onnx import tiny_onnx

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.serving.classifier import Classifier, open_classifier
from imf_deploy.serving.compare import compare_files
from imf_deploy.serving.evaluate import evaluate
from imf_deploy.serving.images import load_image
from imf_deploy.serving.labelled import open_judged
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.serving import ReplacementGate

Cli = Callable[..., Any]
LABELS = ("ant", "bee", "cat", "dog")
PREPROCESS = Preprocess(8, "crop", 8, (0.0,) * 3, (1.0,) * 3, LABELS)
# Each class has a colour of its own, which the files tell apart.
COLOURS = {"ant": (250, 0, 0), "bee": (0, 250, 0), "cat": (0, 0, 250), "dog": (80, 80, 80)}
COUNTS = {"ant": 8, "bee": 6, "cat": 5, "dog": 3}


def write(path: Path, preprocess: Preprocess = PREPROCESS, confused: tuple[str, str] | None = None) -> Path:
    """Write a classifier that recognises the colours, except that it takes the first class for the second."""
    rows = np.zeros((len(preprocess.labels), 3), np.float32)
    bias = np.full(len(preprocess.labels), -9, np.float32)
    for index, label in enumerate(preprocess.labels):
        if label in COLOURS:
            rows[index] = np.array(COLOURS[label]) / 25
            bias[index] = -2 if label != "dog" else 1.5
    if confused:
        first, second = (preprocess.labels.index(label) for label in confused)
        rows[second] += rows[first]
        bias[first] = -99
    model = onnx.load(tiny_onnx(path, side=preprocess.size, classes=len(preprocess.labels)))
    weight = np.zeros((len(rows), 3, 3, 3), np.float32)
    weight[:, :, 1, 1] = rows
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    model.graph.node[0].output[0] = "unbiased"
    model.graph.initializer.append(numpy_helper.from_array(bias[None, :, None, None], "spread"))
    model.graph.node.insert(1, helper.make_node("Add", ["unbiased", "spread"], ["c"]))
    model.graph.node[2].op_type = "Identity"
    helper.set_model_props(model, {"preprocess": json.dumps(asdict(preprocess))})
    onnx.save(model, path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders without splits; every image has noise and a size of its own."""
    folder, random = tmp_path / "pictures", np.random.default_rng(1)
    for label, count in COUNTS.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            noise = random.normal(0, 4, (9 + number, 12, 3))
            pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def judged(classifier: Classifier, folder: Path, split: str = "") -> Any:
    return open_judged(classifier, PlaceSettings(str(folder)), split)


def test_all_images_are_judged_if_there_is_no_test_split(pictures: Path, tmp_path: Path) -> None:
    file = open_classifier(write(tmp_path / "a.onnx", confused=("bee", "cat")))
    images = judged(file, pictures)
    assert "all 22 images are used" in images.notes[-1]
    result = evaluate(file, images)
    assert result.images == 22
    assert {row.label: (row.images, row.right, row.chosen) for row in result.classes} == {
        "ant": (8, 8, 8), "bee": (6, 0, 0), "cat": (5, 5, 11), "dog": (3, 3, 3)
    }  # fmt: skip
    assert result.metrics["top1"].value == pytest.approx(16 / 22)
    assert result.metrics["balanced_accuracy"].value == pytest.approx(0.75)
    assert [(row.label, row.chosen, row.images) for row in result.confused] == [("bee", "cat", 6)]
    assert result.classes[1].precision is None


def test_a_class_may_have_one_image(pictures: Path, tmp_path: Path) -> None:
    for path in (pictures / "ant").glob("[1-9].png"):
        path.unlink()
    file = open_classifier(write(tmp_path / "a.onnx"))
    assert [row.images for row in evaluate(file, judged(file, pictures)).classes] == [1, 6, 5, 3]
    with pytest.raises(ImfDeployError, match="too few to hold one out"):
        judged(file, pictures, "test")


def test_classes_are_matched_by_name(pictures: Path, tmp_path: Path) -> None:
    mixed = replace(PREPROCESS, labels=("zebra", "dog", "cat", "bee", "ant"))
    file = open_classifier(write(tmp_path / "a.onnx", mixed))
    result = evaluate(file, judged(file, pictures))
    assert result.metrics["top1"].value == 1.0
    assert result.without_images == 1
    fewer = open_classifier(write(tmp_path / "b.onnx", replace(PREPROCESS, labels=("ant", "bee", "wolf"))))
    with pytest.raises(UsageError, match=r"2 of 4 classes of pictures are not classes of .*: cat, dog"):
        evaluate(fewer, judged(fewer, pictures))
    twice = replace(PREPROCESS, labels=("ant", "bee", "cat", "dog", "ant"))
    double = open_classifier(write(tmp_path / "c.onnx", twice))
    with pytest.raises(UsageError, match="has several classes called ant"):
        evaluate(double, judged(double, pictures))


def test_images_are_prepared_as_the_file_wants(pictures: Path, tmp_path: Path) -> None:
    wide = replace(PREPROCESS, size=16, resize_to=24, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    file = open_classifier(write(tmp_path / "a.onnx", wide))
    images = judged(file, pictures)
    logits = images.logits(file)
    paths = [path for label in COUNTS for path in sorted((pictures / label).iterdir())]
    with file.open() as session:
        expected = session.logits(np.stack([load_image(path, wide) for path in paths]))
    assert np.allclose(logits, expected, atol=1e-5)
    assert images.image_name(8) == str(pictures / "bee" / "0.png")


def test_a_test_split_is_judged_alone(pictures: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    for part in ("train", "test"):
        shutil.copytree(pictures, split / part)
    for extra in (split / "test").glob("*/[2-9].png"):
        extra.unlink()
    file = open_classifier(write(tmp_path / "a.onnx"))
    assert evaluate(file, judged(file, split)).images == 8
    assert evaluate(file, judged(file, split, "train")).images == 18  # one of each class is held out


def test_nothing_names_data(tmp_path: Path) -> None:
    file = open_classifier(write(tmp_path / "a.onnx"))
    with pytest.raises(UsageError, match="does not name data"):
        open_judged(file, PlaceSettings())


def test_a_record_names_the_data(finished_run: Path, image_folder: Path) -> None:
    file = open_classifier(next((finished_run / "deploy").glob("*fp32.onnx")))
    own = evaluate(file, open_judged(file, PlaceSettings()))
    assert own.metrics["top1"].value == file.record.verify.accuracy  # type: ignore[union-attr]
    again = open_judged(file, PlaceSettings(str(image_folder)))
    assert len(again.split) == own.images


def test_what_flips(pictures: Path, tmp_path: Path) -> None:
    current = open_classifier(write(tmp_path / "current.onnx", confused=("dog", "ant")))
    other = replace(PREPROCESS, labels=("dog", "cat", "bee", "ant"), size=16, resize_to=16)
    candidate = open_classifier(write(tmp_path / "candidate.onnx", other, confused=("bee", "cat")))
    result = compare_files(candidate, current, judged(current, pictures))
    assert (result.gained, result.lost, result.agreement) == (3, 6, pytest.approx(13 / 22))
    assert result.difference == pytest.approx(-3 / 22)
    assert result.p_value == pytest.approx(2 * sum([1, 9, 36, 84]) / 2**9)
    changes = {row.label: (row.images, row.gained, row.lost, row.changed) for row in result.classes}
    assert changes == {"ant": (8, 0, 0, 0), "bee": (6, 0, 6, 6), "cat": (5, 0, 0, 0), "dog": (3, 3, 0, 3)}
    assert [(flip.label, flip.current, flip.candidate) for flip in result.flips] == [
        *[("bee", "bee", "cat")] * 6, *[("dog", "ant", "dog")] * 3
    ]  # fmt: skip
    assert {Path(flip.image).name for flip in result.flips[:6]} == {f"{n}.png" for n in range(6)}
    assert "accuracy falls by 13.64 points" in result.reason
    assert not compare_files(current, current, judged(current, pictures)).flips


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"max_accuracy_drop": 20.0}, ""),
        ({"max_accuracy_drop": 20.0, "gate": {"recall:bee": 10}}, "recall of bee falls by 100.00 points"),
        ({"max_accuracy_drop": 20.0, "gate": {"recall:dog": 0}}, ""),
        ({"max_accuracy_drop": 20.0, "min_agreement": 0.9}, "agreement"),
        ({"gate": {"top1": 5}}, "accuracy falls by 13.64 points"),
    ],
)
def test_gates(pictures: Path, tmp_path: Path, gate: dict[str, Any], reason: str) -> None:
    current = open_classifier(write(tmp_path / "current.onnx", confused=("dog", "ant")))
    candidate = open_classifier(write(tmp_path / "candidate.onnx", confused=("bee", "cat")))
    result = compare_files(candidate, current, judged(current, pictures), ReplacementGate(**gate))
    assert result.reason.startswith(reason) if "agreement" not in reason else reason in result.reason
    assert bool(result.reason) == bool(reason)


def test_gates_that_cannot_be_judged(pictures: Path, tmp_path: Path) -> None:
    file = open_classifier(write(tmp_path / "a.onnx"))
    images = judged(file, pictures)
    with pytest.raises(UsageError, match="`max_slowdown` needs latencies"):
        compare_files(file, file, images, ReplacementGate(max_slowdown=1.5))
    with pytest.raises(UsageError, match="`gate` recall:wolf is not defined on these images"):
        compare_files(file, file, images, ReplacementGate(gate={"recall:wolf": 1}))  # type: ignore[arg-type]


def test_logits_that_are_not_finite_have_no_metrics(pictures: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "weight")
    )
    onnx.save(model, path)
    file = open_classifier(path)
    with pytest.raises(ImfDeployError, match="not finite for 22 of 22 images"):
        evaluate(file, judged(file, pictures))


def test_the_commands(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    current = write(tmp_path / "current.onnx", confused=("dog", "ant"))
    candidate = write(tmp_path / "candidate.onnx", confused=("bee", "cat"))
    shown = cli("evaluate", current, "--data", pictures, "--output", "e.json")
    assert shown.code == 0
    assert "86.4 %" in shown.out
    written = json.loads((tmp_path / "cwd" / "e.json").read_text())
    assert written["metrics"]["top1"]["value"] == pytest.approx(19 / 22)
    arguments = ("compare-files", candidate, current, "--data", pictures)
    failed = cli(*arguments, "--bench-seconds", "0.05", "--output", "c.json")
    assert failed.code == 3
    assert failed.lines[-1].startswith("error: ")
    assert "missed its gate: accuracy falls by 13.64 points" in failed.lines[-1]
    written = json.loads((tmp_path / "cwd" / "c.json").read_text())
    assert written["latency"]["ratio"] > 0
    assert (written["gained"], written["lost"], len(written["flips"])) == (3, 6, 9)
    passed = cli(*arguments, "--bench-seconds", "0", "--max-accuracy-drop", "15")
    assert passed.code == 0
    assert passed.out.splitlines()[-1] == "pass"
