from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import content_hash, describe_onnx, read_model
from imf_deploy.files import sha256_file


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        describe_onnx(tmp_path / "none.onnx")
    with pytest.raises(UsageError):
        describe_onnx(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not an ONNX file", b"\x08\x0a", b"\xff" * 64])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ImfDeployError, match="damaged or not an ONNX"):
        describe_onnx(path)


def test_truncated_file(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    whole = onnx_files["fp32"].read_bytes()
    path = tmp_path / "a.onnx"
    for length in range(0, len(whole) - 1, max(len(whole) // 40, 1)):
        path.write_bytes(whole[:length])
        with pytest.raises(ImfDeployError):
            describe_onnx(path)


def test_flipped_bytes_never_raise_anything_else(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    whole = onnx_files["fp32"].read_bytes()
    path, chance = tmp_path / "a.onnx", random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            describe_onnx(path)
        except ImfDeployError:
            continue


def external(path: Path, location: str) -> None:
    """Write a model whose weights lie in the file ``location``."""
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(helper.make_model(graph).SerializeToString())


def test_external_data_in_the_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 24)
    external(tmp_path / "a.onnx", "w.bin")
    assert isinstance(read_model(tmp_path / "a.onnx"), onnx.ModelProto)


def test_content_hash(tmp_path: Path) -> None:
    path, weights = tmp_path / "a.onnx", tmp_path / "w.bin"
    weights.write_bytes(b"first")
    external(path, "w.bin")
    first = content_hash(path)
    assert content_hash(path) == first != sha256_file(path)
    weights.write_bytes(b"other")
    assert content_hash(path) != first
    weights.unlink()
    with pytest.raises(ImfDeployError, match="is missing"):
        content_hash(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 24)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    external(folder / "a.onnx", location)
    with pytest.raises(ImfDeployError, match="outside its own folder"):
        read_model(folder / "a.onnx")


def test_missing_external_data(tmp_path: Path) -> None:
    external(tmp_path / "a.onnx", "w.bin")
    with pytest.raises(ImfDeployError, match=r"w\.bin, which is missing"):
        read_model(tmp_path / "a.onnx")


@pytest.mark.parametrize("location", ["a\0b", "x" * 5000])
def test_impossible_names_of_external_data(tmp_path: Path, location: str) -> None:
    external(tmp_path / "a.onnx", location)
    with pytest.raises(ImfDeployError):
        read_model(tmp_path / "a.onnx")
