"""The TensorRT runner: everything that needs no GPU, and the rest marked ``gpu``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.export.choice import rtx_runs_on
from imf_deploy.export.engine_header import EngineHeader
from imf_deploy.export.flavour import gpu_here
from imf_deploy.files import sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile, sidecar_path
from imf_deploy.runners.engine_facts import require_gpu, what_runs
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner, load_library

needs_gpu = pytest.mark.skipif(
    not gpu_here() or not rtx_runs_on(gpu_here()), reason="no CUDA device that runs TensorRT-RTX engines"
)


@pytest.fixture
def engine(tmp_path: Path, engine_bytes: bytes) -> Path:
    path = tmp_path / "tiny.engine"
    path.write_bytes(engine_bytes)
    return path


@pytest.fixture
def portable(tmp_path: Path, portable_bytes: bytes) -> Path:
    path = tmp_path / "portable.engine"
    path.write_bytes(portable_bytes)
    return path


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def save_sidecar(path: Path) -> None:
    preprocess = Preprocess(8, "none", 8, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("a", "b", "c", "d"))
    EngineFile(
        path=path, sha256=sha256_file(path), format="tensorrt_rtx", targets=[], batch="1:1:1",
        parent="", recipe="", model={}, preprocess=preprocess,
        product="imf@1", precision="fp16", inputs={"images": ["batch", 3, 8, 8]},
        outputs={"logits": ["batch", 4]},
    ).save()  # fmt: skip


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_error_says_what_the_engine_is(engine: Path) -> None:
    save_sidecar(engine)
    with pytest.raises(DeviceError) as caught, TensorRTRunner(engine):
        pass
    text = str(caught.value)
    assert caught.value.exit_code == 4
    for fact in (
        "TensorRT-RTX 1.", "SM86", "imf@1", "fp16", "images [batch, 3, 8, 8] -> logits [batch, 4]",
        "no CUDA device", "It needs an NVIDIA RTX GPU", "tensorrt-rtx 1.",
    ):  # fmt: skip
        assert fact in text, (fact, text)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_sidecar_it_says_so(engine: Path) -> None:
    with pytest.raises(DeviceError, match="without a sidecar"), TensorRTRunner(engine):
        pass


@pytest.mark.usefixtures("no_gpu")
def test_a_sidecar_of_another_file_is_an_error(engine: Path) -> None:
    save_sidecar(engine)
    sidecar = sidecar_path(engine)
    sidecar.write_text(sidecar.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(ImfDeployError, match="changed after its sidecar"), TensorRTRunner(engine):
        pass


@pytest.mark.usefixtures("no_gpu")
def test_nothing_is_imported_or_deserialised_without_a_gpu(engine: Path) -> None:
    # In a process of its own: the fixture that builds the engine has imported the library here.
    code = (
        "import sys; from pathlib import Path; import torch; torch.cuda.is_available = lambda: False\n"
        "from imf_deploy.errors import DeviceError; from imf_deploy.runners.tensorrt import TensorRTRunner\n"
        "try:\n    TensorRTRunner(Path(sys.argv[1])).__enter__()\n"
        "except DeviceError:\n    sys.exit(10 if 'tensorrt_rtx' in sys.modules else 0)\n"
        "sys.exit(11)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(engine)], check=False).returncode == 0


@pytest.mark.parametrize("content", [b"", b"ftrt", b"no engine at all" * 9, b"vtrt" + bytes(100)])
def test_damaged_engines_are_no_device_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.engine"
    path.write_bytes(content)
    with pytest.raises(ImfDeployError) as caught, TensorRTRunner(path):
        pass
    assert caught.value.exit_code == 1


def test_a_missing_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError), TensorRTRunner(tmp_path / "none.engine"):
        pass


def test_it_must_be_entered(engine: Path) -> None:
    with pytest.raises(ImfDeployError, match="not open"):
        TensorRTRunner(engine).infer(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("capability", "portable", "runs"),
    [
        ((8, 6), False, True), ((8, 9), False, False), ((12, 0), False, False),
        ((8, 9), True, True), ((12, 1), True, True), ((13, 0), True, True),
        # As the runtime said on an H200: "Supported compute capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0".
        ((7, 5), True, False), ((9, 0), True, False), ((10, 0), True, False),
    ],
)  # fmt: skip
def test_another_gpu_than_the_engine_was_built_for(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], portable: bool, runs: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    targets = ("80", "86", "89", "120", "121") if portable else ("86",)
    header = EngineHeader("rtx", "1.7.1.116", 0, 100, targets, portable)
    if runs:
        require_gpu(engine, header)
    else:
        with pytest.raises(DeviceError, match=f"GPU here is SM{capability[0]}{capability[1]}"):
            require_gpu(engine, header)


def test_what_runs_an_engine_of_full_tensorrt() -> None:
    header = EngineHeader("tensorrt", "10.13.2.6", 0, 100, (), portable=False)
    assert "that it was built on" in what_runs(header)
    assert "tensorrt 10.13.2.6" in what_runs(header)


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    header = EngineHeader("tensorrt", "10.13.2.6", 0, 100, (), portable=False)
    with pytest.raises(ImfDeployError, match=r'pip install "tensorrt==10\.13\.2\.6"'):
        load_library(header)


@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt"])
def test_every_attribute_that_is_used_exists(module: str) -> None:
    trt = pytest.importorskip(module)
    used = {
        trt.Runtime: ["deserialize_cuda_engine"],
        trt.ICudaEngine: [
            "num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_shape",
            "get_tensor_profile_shape", "create_execution_context", "create_engine_inspector",
        ],
        trt.EngineInspector: ["execution_context", "get_engine_information"],
        trt.LayerInformationFormat: ["JSON"],
        trt.ProfilingVerbosity: ["DETAILED"],
        trt.IExecutionContext: [
            "set_input_shape", "infer_shapes", "get_tensor_shape", "set_tensor_address", "execute_async_v3",
            "profiler",
        ],
        trt.TensorIOMode: ["INPUT"],
        trt.DataType: ["FLOAT", "HALF", "BF16"],
        trt.ILogger.Severity: ["INTERNAL_ERROR", "ERROR"],
    }  # fmt: skip
    if module == "tensorrt_rtx":
        used[trt.ICudaEngine].append("create_runtime_config")
        used[trt.IRuntimeConfig] = ["dynamic_shapes_kernel_specialization_strategy"]
        used[trt.DynamicShapesKernelSpecializationStrategy] = ["EAGER"]
    missing = [
        f"{kind.__name__}.{name}" for kind, names in used.items() for name in names if not hasattr(kind, name)
    ]
    assert not missing


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_agrees_with_onnxruntime_for_changing_batches(
    onnx_file: Path, portable: Path, cuda_graph: bool
) -> None:
    images = np.random.default_rng(2).standard_normal((4, 3, 8, 8), dtype=np.float32)
    with (
        OnnxRuntimeRunner(onnx_file) as expected,
        TensorRTRunner(portable, cuda_graph=cuda_graph) as runner,
    ):
        assert runner.name == "tensorrt_rtx"
        assert runner.input_shape == (None, 3, 8, 8)
        for number in (1, 4, 4, 2, 1):
            batch = images[-number:]
            np.testing.assert_allclose(runner.infer(batch), expected.infer(batch), rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_parts_of_a_run(portable: Path, cuda_graph: bool) -> None:
    with TensorRTRunner(portable, cuda_graph=cuda_graph) as runner:
        times = runner.trace(np.zeros((2, 3, 8, 8), np.float32))
    assert min(times.enqueue_ms, times.h2d_ms, times.compute_ms, times.d2h_ms) > 0


@pytest.mark.gpu
@needs_gpu
def test_a_batch_beyond_the_profile_is_explained(portable: Path) -> None:
    with TensorRTRunner(portable) as runner:
        with pytest.raises(ImfDeployError, match=r"batches of 1 to 4 of \[3, 8, 8\]"):
            runner.infer(np.zeros((5, 3, 8, 8), np.float32))
        assert runner.infer(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 4)


@pytest.mark.gpu
@needs_gpu
def test_an_engine_that_is_damaged_inside(portable: Path) -> None:
    content = bytearray(portable.read_bytes())
    content[64:-64] = bytes(len(content) - 128)
    portable.write_bytes(content)
    with pytest.raises(ImfDeployError, match="refuses"), TensorRTRunner(portable):
        pass
