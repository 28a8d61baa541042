from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import preloaded
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.onnx_writer import TINY, export_onnx
from imf_deploy.export.opset import OPSET
from imf_deploy.models.registry import ModelSpec, build_model

SIZE = 16
CLASSES = 7


def run(path: Path, images: Tensor) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images.numpy()})[0]


def weights(path: Path) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_logits_are_those_of_the_module(
    tiny: nn.Module, onnx_files: dict[str, Path], precision: str, tolerance: float, batch: int
) -> None:
    images = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = tiny(images).numpy()
    logits = run(onnx_files[precision], images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_interface_is_read_back(onnx_files: dict[str, Path], precision: str) -> None:
    info = describe_onnx(onnx_files[precision])
    assert info.precision == precision
    assert info.inputs == {"images": ["batch", 3, SIZE, SIZE]}
    assert info.outputs == {"logits": ["batch", CLASSES]}
    assert info.opset == OPSET


def test_batch_norm_is_folded_and_one_linear_layer_is_left(onnx_files: dict[str, Path]) -> None:
    assert describe_onnx(onnx_files["fp32"]).operators == {
        "Clip": 5, "Concat": 1, "Conv": 5, "Flatten": 2, "Gemm": 1, "GlobalAveragePool": 2,
    }  # fmt: skip
    # From the float32 input, and to the float32 output; and the linear layer in a form that tract reads.
    assert describe_onnx(onnx_files["fp16"]).operators == {
        "Add": 1, "Cast": 2, "Clip": 5, "Concat": 1, "Conv": 5, "Flatten": 2, "GlobalAveragePool": 2,
        "MatMul": 1,
    }  # fmt: skip


def test_metadata_comes_back(onnx_files: dict[str, Path]) -> None:
    assert describe_onnx(onnx_files["fp32"]).metadata == {"labels": '["Bär"]', "product": "imf@2"}
    assert describe_onnx(onnx_files["fp16"]).metadata == {"product": "imf@2"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_nothing_of_this_machine_is_in_the_file(onnx_files: dict[str, Path], precision: str) -> None:
    content = onnx_files[precision].read_bytes()
    for text in (Path.cwd(), Path(__file__).parent, Path(torch.__file__).parents[1], Path.home()):
        assert str(text).encode() not in content
    for text in ("site-packages", "forward", "stack_trace", "Sequential"):
        assert text.encode() not in content
    model = onnx.load(onnx_files[precision])
    assert not model.functions
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_same_module_gives_same_bytes(
    tiny: nn.Module, onnx_files: dict[str, Path], tmp_path: Path, precision: Literal["fp32", "fp16"]
) -> None:
    path = tmp_path / "again.onnx"
    export_onnx(tiny, path, precision, SIZE, describe_onnx(onnx_files[precision]).metadata)
    assert path.read_bytes() == onnx_files[precision].read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_channels_last_network_has_no_extra_operators(tmp_path: Path) -> None:
    model = build_model(ModelSpec.for_images("mobilenetv2", 10, 32)).eval()
    before = copy.deepcopy(model.state_dict())
    path = tmp_path / "mobilenet.onnx"
    info = export_onnx(model, path, "fp32", 32, {})
    assert info.operators == {
        "Add": 10, "Clip": 35, "Conv": 52, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1,
    }  # fmt: skip
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(run(path, images), expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    # The caller's module is as it was: values, gradients, memory layout.
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.stride() == before[name].stride()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_nothing_reaches_the_terminal(
    tiny: nn.Module,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    export_onnx(tiny, tmp_path / "a.onnx", "fp16", SIZE, {})
    assert capfd.readouterr() == ("", "")
    # torch.__trace is torch's own recorder of every trace, with empty messages.
    assert not [record for record in caplog.records if record.name != "torch.__trace"]
    assert not list(recwarn)


def test_denormal_weights_become_zero(tiny: Any, tmp_path: Path) -> None:
    tiny.head.weight.data[0] = 1e-40
    tiny.head.weight.data[1] = 1e-30
    tiny.head.weight.data[2] = 1e-12
    export_onnx(tiny, tmp_path / "a.onnx", "fp32", SIZE, {})
    head = weights(tmp_path / "a.onnx")["head.weight"]
    assert not head[:2].any()
    assert (head[2] == np.float32(1e-12)).all()
    for values in weights(tmp_path / "a.onnx").values():
        assert not ((values != 0) & (np.abs(values.astype(np.float64)) < TINY)).any()


def test_fp16_rounds_tiny_weights_to_zero_and_keeps_large_ones(tiny: Any, tmp_path: Path) -> None:
    tiny.head.weight.data[0] = -1e-9
    export_onnx(tiny, tmp_path / "a.onnx", "fp16", SIZE, {})
    head = weights(tmp_path / "a.onnx")["head.weight"]
    assert head.dtype == np.float16
    assert not head[:, 0].any()
    tiny.head.weight.data[0, 0] = 7e4
    info = export_onnx(tiny, tmp_path / "b.onnx", "fp16", SIZE, {})
    head = weights(tmp_path / "b.onnx")["head.weight"]
    assert (head.dtype, head[0, 0], head[1, 0]) == (np.float32, np.float32(7e4), np.float32(-1e-9))
    assert info.precision == "mixed (fp16, fp32)"
    assert info.operators["Cast"] == 2
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = tiny(images).numpy()
    np.testing.assert_allclose(run(tmp_path / "b.onnx", images), expected, rtol=1e-2, atol=1e-2)


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


class FixedBatch(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(2, -1)


class Two(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean((2, 3)), images.amax((2, 3))


class Maps(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * 2


@pytest.mark.parametrize("module", [Branching(), FixedBatch(), Two(), Maps()], ids=lambda m: type(m).__name__)
def test_what_is_no_classifier_is_refused(module: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ImfDeployError):
        export_onnx(module.eval(), tmp_path / "a.onnx", "fp32", SIZE, {})
    assert not list(tmp_path.iterdir())


def test_training_mode_is_a_bug(tiny: nn.Module, tmp_path: Path) -> None:
    tiny.train()
    with pytest.raises(ValueError, match="eval mode"):
        export_onnx(tiny, tmp_path / "a.onnx", "fp32", SIZE, {})


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import resource, pathlib, torch
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_writer import export_onnx
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 64)).eval()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    export_onnx(model, pathlib.Path({str(tmp_path)!r}) / "a.onnx", "fp32", 16, {{}})
except ImfDeployError as error:
    print(error)
"""
    done = preloaded.run(["-c", script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the file would be too large" in done.stdout
    assert not list(tmp_path.iterdir())
