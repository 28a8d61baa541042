"""Files that take bytes and return probabilities answer exactly as the file that they are made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_onnx import tiny_onnx

from imf_deploy.calib.model import open_float_model
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.interface import with_interface
from imf_deploy.export.interface_file import write_interface
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.onnx_record import onnx_record
from imf_deploy.export.stage import EnginePlan, write_engine
from imf_deploy.export.tensorrt_writer import check_readable
from imf_deploy.files import sha256_file
from imf_deploy.portability.session import cpu_session
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import OnnxFile
from imf_deploy.runners.interface import as_input
from imf_deploy.serving.classifier import open_classifier
from imf_deploy.settings import InterfaceSettings
from imf_deploy.verification.interface import scaling_difference

LABELS = tuple("abcd")
MEANS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RGB = Preprocess((6, 8), "crop", 7, *MEANS, LABELS)
GREY = Preprocess((6, 8), "none", 6, *MEANS, LABELS, "L")
ONE = Preprocess((6, 8), "none", 6, (0.3,), (0.2,), LABELS, "L")


def record(path: Path, preprocess: Preprocess) -> OnnxFile:
    tiny_onnx(path, channels=preprocess.channels)
    model = onnx.load(path)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (6, 8), strict=True):
        dim.dim_value = size
    onnx.helper.set_model_props(model, preprocess.metadata())
    onnx.save(model, path)
    info = describe_onnx(path)
    return OnnxFile(
        path=path,
        sha256=sha256_file(path),
        parent="p" * 64,
        recipe="r",
        model={"name": "net"},
        preprocess=preprocess,
        inputs=info.inputs,
        outputs=info.outputs,
    ).save()


def run(path: Path, images: Any) -> list[np.ndarray]:
    answers: list[np.ndarray] = cpu_session(path).run(None, {"images": images})
    return answers


def pixels(preprocess: Preprocess) -> np.ndarray:
    shape = (5, *preprocess.picture_shape)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def normal(preprocess: Preprocess, levels: np.ndarray) -> np.ndarray:
    values = preprocess.normalize_array(levels)
    return np.ascontiguousarray(np.broadcast_to(values, (len(levels), *preprocess.shape)))


@pytest.mark.parametrize("preprocess", [RGB, GREY, ONE], ids=["rgb", "grey", "one channel"])
@pytest.mark.parametrize("kind", ["uint8-nhwc", "uint8-nchw"])
def test_bytes_give_the_same_logits(preprocess: Preprocess, kind: Any, tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", preprocess)
    levels = pixels(preprocess)
    (expected,) = run(origin.path, normal(preprocess, levels))
    made = write_interface(origin, InterfaceSettings(input=kind))
    own = levels if kind == "uint8-nchw" else np.ascontiguousarray(levels.transpose(0, 2, 3, 1))
    (found,) = run(made.path, own)
    np.testing.assert_array_equal(found, expected)
    # What a comparison feeds it comes from normalised images.
    np.testing.assert_array_equal(as_input(normal(preprocess, levels), made.interface, preprocess), own)
    assert made.path.name == f"net-{kind}.onnx"
    assert made.inputs == {"images": ["batch", *own.shape[1:]]}
    assert made.parent == origin.sha256
    assert "uint8" in made.usage[0]


def test_heads(tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    images = normal(RGB, pixels(RGB))
    (logits,) = run(origin.path, images)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    made = write_interface(origin, InterfaceSettings(head="probabilities"))
    np.testing.assert_allclose(run(made.path, images)[0], expected, atol=1e-6)
    best = write_interface(origin, InterfaceSettings(head="top5", input="uint8-nhwc"))
    values, classes = run(best.path, np.ascontiguousarray(pixels(RGB).transpose(0, 2, 3, 1)))
    assert best.outputs == {"probabilities": ["batch", 4], "classes": ["batch", 4]}  # there are four classes
    np.testing.assert_array_equal(classes, np.argsort(-expected, axis=1))
    np.testing.assert_allclose(values, -np.sort(-expected, axis=1), atol=1e-6)
    assert describe_onnx(best.path).metadata["head"] == "top5"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "to"), [(16, 16), (16, 20), ((12, 20), 15)])
def test_images_of_all_sizes_are_scaled_as_pillow_scales_them(
    size: Any, to: int, interpolation: Any, tmp_path: Path
) -> None:
    preprocess = Preprocess(size, "crop", to, *MEANS, LABELS, "RGB", interpolation)
    assert scaling_difference(InterfaceSettings(input="uint8-nhwc", input_size="any"), preprocess) <= 1


def test_a_file_for_all_sizes_classifies_photos(tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    made = write_interface(origin, InterfaceSettings(input="uint8-nhwc", input_size="any"))
    assert made.opset == 18
    levels = pixels(RGB)
    (expected,) = run(origin.path, normal(RGB, levels))
    inside = as_input(normal(RGB, levels), made.interface, RGB)
    assert inside.shape == (5, 7, 9, 3)
    np.testing.assert_allclose(run(made.path, inside)[0], expected, atol=1e-6)
    photo = Image.effect_noise((40, 30), 60).convert("RGB")
    with open_classifier(origin.path).open() as session:
        wanted = session.logits(RGB.load(photo)[None])
    np.testing.assert_allclose(run(made.path, np.asarray(photo)[None])[0], wanted, atol=0.05)


def test_predictions_are_those_of_the_origin(tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    levels = pixels(RGB)
    with open_classifier(origin.path).open() as session:
        expected = session.logits(levels)
    for interface in (
        InterfaceSettings(input="uint8-nhwc", input_size="any"),
        InterfaceSettings(input="uint8-nchw", head="probabilities"),
    ):
        made = write_interface(origin, interface)
        (tmp_path / f"{made.path.name}.json").unlink()  # the metadata of the file says it too
        with open_classifier(made.path).open() as session:
            found = session.logits(levels)
        shift = (found - expected).mean(
            1, keepdims=True
        )  # probabilities do not contain the sum of the logits
        np.testing.assert_allclose(found - shift, expected, atol=1e-4)
        assert interface == onnx_record(made.path, describe_onnx(made.path), None)[0].interface


@pytest.mark.parametrize(
    ("interface", "preprocess", "told"),
    [
        (InterfaceSettings(input_size="any"), RGB, "`input_size` any resizes bytes, but `input` is float"),
        (InterfaceSettings("uint8-nhwc", "any"), GREY, "not resized"),
        (InterfaceSettings("uint8-nhwc", "any"), replace(RGB, interpolation="lanczos"), "no lanczos filter"),
        (InterfaceSettings("uint8-nchw"), Preprocess.of_tensors((3, 6, 8), LABELS), "only given tensors"),
    ],
)
def test_what_the_images_do_not_allow_is_refused(
    interface: InterfaceSettings, preprocess: Preprocess, told: str, tmp_path: Path
) -> None:
    origin = record(tmp_path / "net.onnx", preprocess)
    with pytest.raises(UsageError, match=told):
        write_interface(origin, interface)
    assert len(list(tmp_path.iterdir())) == 2


def test_stages_that_need_the_origin_refuse_other_interfaces(tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    made = write_interface(origin, InterfaceSettings("uint8-nhwc", head="top5"))
    with pytest.raises(UsageError, match=r"another interface.*made from"):
        open_float_model(made.path)
    with pytest.raises(UsageError, match="engines have none"):
        write_engine(made, EnginePlan("rtx"), tmp_path / "net.engine")
    with pytest.raises(UsageError, match="only returns the best classes"):
        open_classifier(made.path)
    with pytest.raises(ImfDeployError, match="inputs and outputs images, probabilities, classes"):
        with_interface(onnx.load(made.path), InterfaceSettings(head="top5"), RGB)
    with pytest.raises(ImfDeployError, match="images that were bytes"):
        as_input(normal(RGB, pixels(RGB)) + 0.003, made.interface, RGB)


def test_tensorrt_reads_bytes(rtx: None, tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    made = write_interface(origin, InterfaceSettings("uint8-nhwc", head="probabilities"))
    check_readable(made.path, "rtx")


def test_the_record_has_the_interface(tmp_path: Path) -> None:
    origin = record(tmp_path / "net.onnx", RGB)
    made = write_interface(origin, InterfaceSettings("uint8-nhwc"))
    content = json.loads(Path(f"{made.path}.json").read_text())
    assert content["interface"] == {
        "input": "uint8-nhwc", "input_size": "network", "head": "logits", "input_name": "images"
    }  # fmt: skip
    assert write_interface(origin, InterfaceSettings("uint8-nhwc")) == made
