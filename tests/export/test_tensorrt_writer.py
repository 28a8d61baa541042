from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import preloaded
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.settings import BatchRange

pytestmark = pytest.mark.usefixtures("rtx")
BATCH = BatchRange(1, 2, 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("asked", "targets"),
    [((), ()), (("86",), ("86",)), (("sm89",), ("89",)), (("8.9", "86", "89"), ("86", "89"))],
)
def test_engine_is_built(
    onnx_files: dict[str, Path],
    tmp_path: Path,
    precision: str,
    asked: tuple[str, ...],
    targets: tuple[str, ...],
) -> None:
    path = tmp_path / "a.engine"
    info = build_engine(onnx_files[precision], path, "rtx", BATCH, asked)
    assert info.path == path
    assert info.batch == (BATCH,)
    assert info.onnx.precision == precision
    assert info.layers > 0
    assert info.header.flavour == "rtx"
    assert info.header.size == path.stat().st_size
    assert info.header.portable == (not asked)
    assert info.header.targets == (targets or ("80", "86", "89", "120", "121"))
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_reaches_the_terminal(
    onnx_files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH)
    with pytest.raises(ImfDeployError):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH, ("75",))
    assert capfd.readouterr() == ("", "")


def test_version_is_the_library_s(engine: Path) -> None:
    import tensorrt_rtx

    assert read_engine_header(engine).version == tensorrt_rtx.__version__


def test_narrow_weights_make_a_smaller_engine(tmp_path: Path) -> None:
    path, model = (
        tmp_path / "wide.onnx",
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 500)).eval(),
    )
    sizes = {}
    precisions: tuple[Literal["fp32", "fp16"], ...] = ("fp32", "fp16")
    for precision in precisions:
        export_onnx(model, path, precision, 16, {})
        sizes[precision] = build_engine(path, tmp_path / "a.engine", "rtx", BATCH, ("86",)).header.size
    onnx.save(int8_linear(768, 500), path)
    sizes["int8"] = build_engine(path, tmp_path / "a.engine", "rtx", BATCH, ("86",)).header.size
    # Two bytes a weight, less some padding; then one more, less the text of the kernels that quantise.
    assert sizes["fp32"] - sizes["fp16"] > 0.7 * 2 * 768 * 500
    assert sizes["fp16"] - sizes["int8"] > 0.3 * 768 * 500


def int8_linear(inputs: int, outputs: int) -> onnx.ModelProto:
    """Return ``images [batch, inputs] -> logits [batch, outputs]`` with int8 weights and activations."""
    random = np.random.default_rng(0)
    values = {
        "scale": np.float32(0.02),
        "zero": np.int8(0),
        "weight": random.integers(-127, 128, (outputs, inputs), np.int8),
        "scales": np.full(outputs, 0.01, np.float32),
        "zeros": np.zeros(outputs, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_turing_needs_fp16(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    with pytest.raises(ImfDeployError, match="FP32 GEMM") as caught:
        build_engine(onnx_files["fp32"], path, "rtx", BATCH, ("75",))
    assert "`precisions` fp16" in caught.value.hint
    assert not list(tmp_path.iterdir())
    assert build_engine(onnx_files["fp16"], path, "rtx", BATCH, ("75",)).header.targets == ("75",)


def test_failed_build_keeps_what_was_there(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(b"before")
    with pytest.raises(ImfDeployError):
        build_engine(onnx_files["fp32"], path, "rtx", BATCH, ("75",))
    assert path.read_bytes() == b"before"


def model_of(path: Path, operator: str, shape: list[int | str], domain: str = "") -> Path:
    """Write a model of one operator, with a node that can be named in an error."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["images"], ["logits"], "the_node", domain=domain)],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize(("operator", "domain"), [("Det", ""), ("Nonsense", "of.nobody")])
def test_unsupported_operator_is_named(tmp_path: Path, operator: str, domain: str) -> None:
    model = model_of(tmp_path / "a.onnx", operator, ["batch", 3, 3], domain)
    with pytest.raises(ImfDeployError, match=f"operator {operator}, node 'the_node'"):
        build_engine(model, tmp_path / "a.engine", "rtx", BATCH)


@pytest.mark.parametrize("content", [b"", b"garbage" * 20])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ImfDeployError):
        build_engine(tmp_path / "a.onnx", tmp_path / "a.engine", "rtx", BATCH)
    assert not (tmp_path / "a.engine").exists()


def test_missing_onnx(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        build_engine(tmp_path / "none.onnx", tmp_path / "a.engine", "rtx", BATCH)


def test_fixed_batch(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a.onnx", "Relu", [2, 3])
    assert build_engine(model, tmp_path / "a.engine", "rtx", BatchRange(2, 2, 2)).layers == 1
    with pytest.raises(UsageError, match="batch of 2"):
        build_engine(model, tmp_path / "b.engine", "rtx", BATCH)


def test_dynamic_picture(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a.onnx", "Relu", ["batch", 3, "height", "width"])
    with pytest.raises(ImfDeployError, match="besides the batch"):
        build_engine(model, tmp_path / "a.engine", "rtx", BATCH)


def test_bad_capability(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'90'"):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH, ("90",))
    with pytest.raises(UsageError, match="GPU of this machine"):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "tensorrt", BATCH, ("86",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_full_tensorrt_needs_a_gpu(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "tensorrt", BATCH)


def test_full_disk_leaves_nothing(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    script = f"""
import resource, pathlib
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.settings import BatchRange
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = pathlib.Path({str(tmp_path)!r})
try:
    build_engine(pathlib.Path({str(onnx_files["fp32"])!r}), folder / "a.engine", "rtx", BatchRange(1, 1, 1))
except ImfDeployError as error:
    print(error)
"""
    done = preloaded.run(["-c", script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the file would be too large" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_unwritable_folder(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ImfDeployError, match="permission denied"):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH)
