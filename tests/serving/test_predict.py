"""Answers for images: the same as those of the network, whatever the file's outputs and batches are."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_onnx import tiny_onnx

from imf_deploy.data import DataSet
from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.method.products import load_product
from imf_deploy.preprocess import Preprocess
from imf_deploy.serving.classifier import open_classifier
from imf_deploy.serving.images import find_images, load_image
from imf_deploy.serving.predict import Prediction, predict

Cli = Callable[..., Any]
LABELS = ("ant", "bee", "cat", "dog")
PREPROCESS = Preprocess(8, "crop", 9, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), LABELS)


def edit(path: Path, change: Callable[[ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def behind(path: Path, *nodes: Any, output: str) -> Path:
    """Put operators behind the logits, and give their result instead."""

    def change(model: ModelProto) -> None:
        model.graph.node.extend(nodes)
        model.graph.output[0].name = output

    return edit(path, change)


def answers(path: Path, photos: Path, **options: Any) -> list[Prediction]:
    found = list(predict(open_classifier(path, **options), find_images([photos]), 4))
    assert all(isinstance(answer, Prediction) for answer in found)
    return found  # type: ignore[return-value]


def same(first: list[Prediction], second: list[Prediction], within: float = 1e-6) -> bool:
    return [answer.classes for answer in first] == [answer.classes for answer in second] and np.allclose(
        [answer.probabilities for answer in first],
        [answer.probabilities for answer in second],
        rtol=0,
        atol=within,
    )


@pytest.mark.parametrize("preprocess", [
    PREPROCESS,
    replace(PREPROCESS, color="L"),
    replace(PREPROCESS, color="L", mean=(0.3,), std=(0.7,)),
])  # fmt: skip
def test_arrays_and_tensors_are_normalised_alike(preprocess: Preprocess) -> None:
    channels = 1 if preprocess.color == "L" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 8, 8), np.uint8)
    expected = preprocess.normalize(torch.from_numpy(pixels)).numpy()
    assert np.array_equal(preprocess.normalize_array(pixels), expected)


@pytest.mark.parametrize("form", ["fp32.onnx", "fp16.onnx", "weights"])
def test_files_answer_like_their_network(finished_run: Path, data: DataSet, form: str) -> None:
    (weights,) = (finished_run / "products").glob("*.safetensors")
    path = weights if form == "weights" else next((finished_run / "deploy").glob(f"*{form}"))
    product = load_product(weights)
    folder = Path(data.config["data"]) / "val"
    classifier = open_classifier(path)
    found = list(predict(classifier, find_images([folder]), 1))
    paths = find_images([folder])
    pixels = np.stack([load_image(each, data.preprocess) for each in paths])
    assert {pixels[i].tobytes() for i in range(len(pixels))} == {
        image.numpy().tobytes() for image in data.test.fetch(torch.arange(len(data.test)))
    }
    with torch.inference_mode():
        expected = product.module.eval()(data.preprocess.normalize(torch.from_numpy(pixels))).softmax(1)
    for answer, image, row in zip(found, paths, expected, strict=True):
        assert isinstance(answer, Prediction)
        assert answer.image == image
        assert answer.classes == (data.preprocess.labels[int(row.argmax())],)
        assert answer.probabilities[0] == pytest.approx(float(row.max()), abs=2e-2 if "16" in form else 1e-5)


def test_probabilities_are_not_softened_again(onnx_file: Path, photos: Path, tmp_path: Path) -> None:
    logits = answers(onnx_file, photos)
    soft = behind(onnx_file, helper.make_node("Softmax", ["logits"], ["given"], axis=1), output="given")
    assert same(answers(soft, photos), logits)
    assert len({answer.classes for answer in logits}) > 1


def test_probabilities_that_are_rounded_to_8_bits(onnx_file: Path, photos: Path) -> None:
    logits = answers(onnx_file, photos)

    def rounded(model: ModelProto) -> None:
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.float32(1 / 100), "scale"),
                numpy_helper.from_array(np.uint8(0), "zero"),
            ]
        )

    edit(onnx_file, rounded)
    nodes = [
        helper.make_node("Softmax", ["logits"], ["soft"], axis=1),
        helper.make_node("QuantizeLinear", ["soft", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["given"]),
    ]
    found = answers(behind(onnx_file, *nodes, output="given"), photos)
    for own, other in zip(found, logits, strict=True):
        assert own.probabilities[0] == pytest.approx(other.probabilities[0], abs=0.03)


def test_a_sigmoid_is_refused(onnx_file: Path, photos: Path) -> None:
    behind(onnx_file, helper.make_node("Sigmoid", ["logits"], ["given"]), output="given")
    with pytest.raises(UsageError, match="each class has a probability of its own"):
        answers(onnx_file, photos)


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_a_file_with_a_fixed_batch(onnx_file: Path, photos: Path, tmp_path: Path, batch: int) -> None:
    fixed = tiny_onnx(tmp_path / "fixed.onnx", batch)
    given = tmp_path / "p.json"
    given.write_text(json.dumps(asdict(PREPROCESS)))
    assert same(answers(fixed, photos, preprocess=given), answers(onnx_file, photos))


def test_a_batch_that_is_only_declared_free(onnx_file: Path, photos: Path) -> None:
    expected = answers(onnx_file, photos)
    edit(onnx_file, lambda m: m.graph.initializer.append(numpy_helper.from_array(np.array([1, 4]), "shape")))
    behind(onnx_file, helper.make_node("Reshape", ["logits", "shape"], ["one"]), output="one")
    assert same(answers(onnx_file, photos), expected)


def test_two_outputs(onnx_file: Path, photos: Path) -> None:
    expected = answers(onnx_file, photos)

    def second(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node("Neg", ["logits"], ["other"]))
        model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["batch", 4]))

    edit(onnx_file, second)
    with pytest.raises(UsageError, match="has 2 outputs with a column for each of 4 labels"):
        answers(onnx_file, photos)
    assert same(answers(onnx_file, photos, logits="logits"), expected)
    other = answers(onnx_file, photos, logits="other")
    assert [answer.classes[::-1] for answer in other] == [answer.classes for answer in expected]
    with pytest.raises(UsageError, match="has no output 'nope', only logits, other"):
        open_classifier(onnx_file, logits="nope")


def test_logits_that_are_not_finite(onnx_file: Path, photos: Path) -> None:
    def nan_weights(model: ModelProto) -> None:
        weight = np.full((4, 3, 3, 3), np.nan, np.float32)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))

    edit(onnx_file, nan_weights)
    found = list(predict(open_classifier(onnx_file), find_images([photos]), 4))
    assert len(found) == 7
    assert all(isinstance(each, ImfDeployError) and "not finite for" in each.what for each in found)


def test_the_preprocessing_is_given_or_refused(tmp_path: Path, photos: Path, onnx_file: Path) -> None:
    bare, given = tiny_onnx(tmp_path / "bare.onnx"), tmp_path / "p.json"
    with pytest.raises(UsageError, match=r"the preprocessing of .* is unknown") as caught:
        open_classifier(bare)
    assert "`preprocess` FILE.json" in caught.value.hint
    expected = answers(onnx_file, photos)
    given.write_text(json.dumps(asdict(PREPROCESS)))
    assert same(answers(bare, photos, preprocess=given), expected)
    given.write_text(json.dumps({"schema": 1, "preprocess": asdict(PREPROCESS)}))  # as in a record
    assert same(answers(bare, photos, preprocess=given), expected)
    given.write_text(json.dumps(asdict(replace(PREPROCESS, size=16))))
    with pytest.raises(UsageError, match=r"but its preprocessing makes \[batch, 3, 16, 16\]"):
        open_classifier(bare, preprocess=given)
    given.write_text(json.dumps(asdict(replace(PREPROCESS, labels=("a", "b")))))
    with pytest.raises(UsageError, match="no output with one column for each of 2 labels"):
        answers(bare, photos, preprocess=given)
    given.write_text(json.dumps({k: v for k, v in asdict(PREPROCESS).items() if k != "labels"}))
    with pytest.raises(ImfDeployError, match="labels"):
        open_classifier(bare, preprocess=given)
    given.write_text("[]")
    with pytest.raises(ImfDeployError, match=r"p\.json"):
        open_classifier(bare, preprocess=given)


def test_files_that_cannot_be_run(tmp_path: Path, finished_run: Path, photos: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(UsageError, match="its suffix is not one of"):
        open_classifier(text)
    with pytest.raises(UsageError, match="there is no file"):
        open_classifier(tmp_path / "no.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"junk" * 100)
    with pytest.raises(ImfDeployError, match=r"broken\.onnx"):
        open_classifier(broken)
    (teacher,) = (finished_run).glob("distilled.safetensors")
    with pytest.raises(ImfDeployError):
        open_classifier(teacher)


def test_images_of_files_and_folders(photos: Path, tmp_path: Path) -> None:
    names = [path.relative_to(photos).as_posix() for path in find_images([photos])]
    assert names == ["a.png", "b.jpg", "c.png", "d.gif", "e.png", "inside/f.png", "inside/g.png"]
    both = find_images([photos / "c.png", photos / "inside"])
    assert [path.name for path in both] == ["c.png", "f.png", "g.png"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").write_bytes((photos / "a.png").read_bytes())
    with pytest.raises(UsageError, match="has no images"):
        find_images([tmp_path / "empty"])
    with pytest.raises(UsageError, match="there is no image or folder"):
        find_images([photos, tmp_path / "x.png"])
    with pytest.raises(UsageError, match="the name of an image is empty"):
        find_images([""])


def test_a_folder_of_unusable_images_ends_early(onnx_file: Path, tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "junk"
    place.mkdir()
    for number in range(200):
        (place / f"{number:03}.png").write_bytes(b"junk")
    result = cli("predict", onnx_file, place, "--csv")
    assert result.code == 2
    assert result.lines[0].startswith("error: none of the first 32 images can be used: cannot read the image")


def test_the_command_answers_for_what_it_can_read(
    cli: Cli, onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    strange = ['=a,"b".png', "new\nline.png", "é.png"]
    for name in strange:
        (place / name).write_bytes((photos / "a.png").read_bytes())
    (place / "bad.png").write_bytes(b"junk")
    (place / "cut.jpg").write_bytes((photos / "b.jpg").read_bytes()[:-40])
    result = cli("predict", onnx_file, place, "--csv", "--top", "9")
    assert result.code == 1
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert {row["image"] for row in rows} == {str(place / name) for name in strange}
    expected = predict_one(onnx_file, photos / "a.png")
    for row in rows:
        assert (row["class"], row["class_4"]) == (expected.classes[0], expected.classes[3])
        assert float(row["probability"]) == pytest.approx(expected.probabilities[0], abs=1e-6)
    assert [line for line in result.lines if "bad.png" in line and "cut.jpg" not in line]
    assert result.lines[-1].startswith("error: 2 of 5 images have no answer")
    shown = cli("predict", onnx_file, photos / "a.png", "--top", "2")
    (line,) = shown.out.splitlines()
    assert (shown.code, shown.err) == (0, "")
    assert line.startswith(f"{photos / 'a.png'}: {expected.classes[0]} ")


def predict_one(path: Path, image: Path) -> Prediction:
    (answer,) = predict(open_classifier(path), [image], 4)
    assert isinstance(answer, Prediction)
    return answer


def test_a_device_that_is_not_here(onnx_file: Path, photos: Path, cli: Cli) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = cli("predict", onnx_file, photos, "--device", "cuda")
    assert result.code == DeviceError.exit_code
    assert len(result.lines) == 1


def test_pytorch_is_not_imported_for_onnx(onnx_file: Path, photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from imf_deploy.cli import main; import atexit;"
        "atexit.register(lambda: print([m for m in ('torch', 'matplotlib') if m in sys.modules]));"
        f"sys.argv[1:] = ['predict', {str(onnx_file)!r}, {str(photos)!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout.splitlines()) == 8
