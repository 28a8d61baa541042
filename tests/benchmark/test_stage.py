"""``bench`` on real files."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from rich.console import Console

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.inputs import noise
from imf_deploy.benchmark.result import BenchResult
from imf_deploy.benchmark.stage import bench
from imf_deploy.benchmark.table import beside, render
from imf_deploy.benchmark.ways import WAYS
from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.files import sha256_file
from imf_deploy.runners.opening import RUNTIMES, Way
from imf_deploy.runners.pytorch import PyTorchRunner
from imf_deploy.settings import BenchSettings

QUICK: dict[str, Any] = {
    "duration": 0.0, "iterations": 6, "warmup": 0.0, "loads": 6, "startup": False
}  # fmt: skip
ONE: dict[str, Any] = {"threads": 1}


def quick(files: list[Path], **options: Any) -> BenchResult:
    return bench(files, BenchSettings(**(QUICK | options)))


Dim = int | str | None


def tiny(path: Path, shape: tuple[Dim, ...] = ("n", 3, 8, 8)) -> Path:
    """Write mean -> flatten, a network of any input shape."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])]
    graph = helper.make_graph(nodes, "tiny", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, str(path))
    return path


@pytest.fixture(autouse=True)
def bench_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module("imf_deploy.benchmark.measure")
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    monkeypatch.setattr(module, "LEAD_IN_S", 0.0)


def fake_engine(path: Path) -> Path:
    """Write a file whose header is that of a TensorRT 10 engine; nothing else of it is read here."""
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 13, 2, 6]) + bytes(100))
    return path


def test_two_files_and_two_batch(tmp_path: Path) -> None:
    paths = [tiny(tmp_path / "a.onnx"), tiny(tmp_path / "b.onnx")]
    result = quick(paths, **ONE, batch=(1, 4))
    assert [(row.name, row.latency.images) for row in result.rows] == [
        ("a.onnx", 1), ("b.onnx", 1), ("a.onnx", 4), ("b.onnx", 4),
    ]  # fmt: skip
    assert [row.ratio is None for row in result.rows] == [True, False, True, False]
    assert all(row.latency.count >= 6 and row.runner == "onnxruntime" for row in result.rows)
    assert result.rows[1].sha256 == sha256_file(paths[1])
    content = json.loads(json.dumps(result.to_dict()))
    assert content["rows"][1]["ratio"][1] <= content["rows"][1]["ratio"][0]
    assert content["settings"]["image_shape"] == [3, 8, 8]
    assert content["conditions"]["threads"] == 1


def test_the_same_file_twice_and_the_same_name_twice(tmp_path: Path) -> None:
    a, other = tiny(tmp_path / "a.onnx"), tiny(tmp_path / "sub" / "a.onnx")
    names = [row.name for row in quick([a, a, other]).rows]
    assert names == [str(a), f"{a} #2", str(other)]


def test_the_table_shows_every_number_in_80_columns(tmp_path: Path) -> None:
    paths = [tiny(tmp_path / "a.onnx"), tiny(tmp_path / "a_long_[name]_of_a_student.onnx")]
    result = quick(paths)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(render(result))
    text = captured.get()
    found = result.rows[1].ratio
    assert found is not None
    for part in (
        f"{found.value:.3f}",
        f"{found.low:.3f}-{found.high:.3f}",
        "images/s",
        "onnxruntime",
        "[name]",
    ):
        assert part in text
    assert "…" not in text


def test_free_sides_need_a_size(tmp_path: Path) -> None:
    path = tiny(tmp_path / "free.onnx", ("n", 3, "h", None))
    with pytest.raises(UsageError, match="`image_size`"):
        quick([path])
    assert quick([path], image_size=5).settings["image_shape"] == [3, 5, 5]
    assert quick([path], image_size="5x7").settings["image_shape"] == [3, 5, 7]
    half = tiny(tmp_path / "half.onnx", ("n", 3, 5, None))
    assert quick([half], image_size=(5, 7)).settings["image_shape"] == [3, 5, 7]
    for shape in (("n", "c", "h", "w"), ("n", 1, "h", 7)):
        free = tiny(tmp_path / "channels.onnx", shape)
        assert quick([free], image_size=(1, 5, 7)).settings["image_shape"] == [1, 5, 7]


@pytest.mark.parametrize(
    ("shapes", "options", "problem"),
    [
        ([("n", 3, 8, 8)], {"image_size": 9}, r"only images of \[8, 8\]"),
        ([("n", 3, 8, "w")], {"image_size": (9, 8)}, r"only images of \[8, None\]"),
        ([("n", 3, "h", "w")], {"image_size": (1, 8, 8)}, "only images of 3 channels"),
        ([("n", 3, "h", "w")], {"image_size": (8, 1 << 21)}, "`image_size` 8x2097152 is too large"),
        ([("n", 3, 8, 8), ("n", 3, 9, 9)], {}, "different image sizes"),
        ([(1, 3, 8, 8), (2, 3, 8, 8)], {}, "different batch sizes"),
        ([("n", 3, 8, 8), (2, 3, 8, 8)], {}, "`batch` 2"),
        ([("n", "s", 8)], {}, r"0\.onnx \(input x\) has the shape \[free, free, 8\]"),
        ([("n", 3, 100_000, 100_000)], {}, r"takes 111\.8 GiB.*`image_size`"),
        ([("n", 3, "h", "w")], {"image_size": 100_000}, r"takes 111\.8 GiB"),
        ([("n", 3, 8, 8)], {"batch": (1, 2_000_000)}, r"takes 1\.4 GiB.*smaller `batch`"),
        ([("n", 3, 8, 8)] * 2, {"loads": 5}, "6 loads"),
        ([("n", 3, 8, 8)] * 2, {"loads": 1}, "6 loads"),
        ([("n", 3, 8, 8)], {"batch": (0,)}, "`batch`"),
        ([("n", 3, 8, 8)], {"batch": ()}, "`batch`"),
        ([("n", 3, 8, 8)], {"threads": -1}, "`threads`"),
        ([("n", 3, 8, 8)], {"duration": -1.0}, "`duration`"),
        ([("n", 3, 8, 8)], {"duration": math.nan}, "`duration`"),
        ([("n", 3, 8, 8)], {"warmup": math.inf}, "`warmup`"),
        ([("n", 3, 8, 8)], {"iterations": 0}, "`iterations`"),
        ([("n", 3, 8, 8)], {"loads": 0}, "`loads`"),
        ([("n", 3, 8, 8)], {"baseline": "b.onnx"}, r"`baseline` b\.onnx.*0\.onnx"),
        ([("n", 3, 8, 8)], {"runtime": ("ncnn",)}, "`runtime` ncnn is not known"),
        ([("n", 3, 8, 8)], {"runtime": ()}, "`runtime`"),
        ([("n", 3, 8, 8)], {"pytorch": ("jit",)}, "`pytorch` jit is not known"),
        ([("n", 3, 8, 8)], {"provider": ("dml",)}, "`provider` dml is not known"),
        ([("n", 3, 8, 8)], {"cuda_graph": ("maybe",)}, "`cuda_graph`"),
        ([("n", 3, 8, 8)], {"runtime": ("onnxruntime",) * 2}, "a value twice"),
        ([("n", 3, 8, 8)], {"device": "tpu"}, "`device`"),
        ([("n", 3, 8, 8)], {"device": "cuda:x"}, "`device`"),
        ([], {}, "nothing to measure"),
    ],
)
def test_what_does_not_fit_together_is_said(
    tmp_path: Path, shapes: list[tuple[Dim, ...]], options: dict[str, object], problem: str
) -> None:
    paths = [tiny(tmp_path / f"{index}.onnx", shape) for index, shape in enumerate(shapes)]
    with pytest.raises(UsageError, match=problem):
        quick(paths, **options)


def cast(path: Path, kind: int, shape: tuple[Dim, ...]) -> Path:
    """Write a network that makes float32 of its input."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    ends = [
        helper.make_tensor_value_info(name, type, shape)
        for name, type in (("x", kind), ("y", TensorProto.FLOAT))
    ]
    graph = helper.make_graph(nodes, "cast", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize(
    ("kind", "shape", "size", "taken"),
    [
        (TensorProto.FLOAT16, ("n", 3, 8, 8), None, ("float16", [3, 8, 8])),
        (TensorProto.UINT8, ("n", "h", "w", 3), 6, ("uint8", [6, 6, 3])),
        (TensorProto.FLOAT, ("n", "c", "h", "w"), 6, ("float32", [3, 6, 6])),
        (TensorProto.INT64, ("n", 16), None, ("int64", [16])),
        (TensorProto.FLOAT, (2, 3, 4, 8, 8), None, ("float32", [3, 4, 8, 8])),
        (TensorProto.INT8, ("n",), None, ("int8", [])),
    ],
)
def test_any_one_input_is_measured(
    tmp_path: Path, kind: int, shape: tuple[Dim, ...], size: int | None, taken: tuple[str, list[int]]
) -> None:
    path = cast(tmp_path / "a.onnx", kind, shape)
    both = {"threads": 1, "runtime": ("onnxruntime", "openvino")}
    # Processes of their own take seconds: one type other than float32 is enough.
    startup = kind == TensorProto.UINT8
    result = quick([path], **both, batch=(2,), image_size=size or 0, startup=startup)
    assert (result.settings["input_type"], result.settings["image_shape"]) == taken
    assert [row.latency.images for row in result.rows] == [2, 2]
    for row in result.rows:
        assert (row.start_up is not None and row.start_up["load_ms"] > 0) == startup
    assert json.loads(json.dumps(result.to_dict()))["rows"][0]["session"] == {
        "providers": ["CPUExecutionProvider"], "operators_on_cpu": True
    }  # fmt: skip
    assert result.rows[1].session is None


def test_a_single_number_is_no_batch(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no batch"):
        quick([cast(tmp_path / "a.onnx", TensorProto.FLOAT, ())])


def test_files_of_different_types_are_measured_apart(tmp_path: Path) -> None:
    paths = [cast(tmp_path / f"{kind}.onnx", kind, ("n", 3, 8, 8)) for kind in (1, 10)]
    with pytest.raises(UsageError, match=r"float32.*float16"):
        quick(paths)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127), ("int64", 0, 1), ("int32", 0, 1)]
)
def test_whole_numbers_are_valid_everywhere(kind: str, low: int, high: int) -> None:
    found = noise((4, 1000), kind, 0)
    assert (found.dtype, found.min(), found.max()) == (np.dtype(kind), low, high)
    np.testing.assert_array_equal(found, noise((4, 1000), kind, 0))


def test_operators_on_the_cpu_are_reported(tmp_path: Path) -> None:
    measured = quick([tiny(tmp_path / "a.onnx")], **ONE)
    result = dataclasses.replace(measured, conditions=measured.conditions | {"other_cpus": 0.0})
    assert beside(result) == []
    mixed = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"], "operators_on_cpu": True}
    row = dataclasses.replace(result.rows[0], session=mixed)
    assert "some of its operators run on the CPU" in beside(dataclasses.replace(result, rows=(row,)))[0]


def test_a_busy_machine_is_reported(tmp_path: Path) -> None:
    measured = quick([tiny(tmp_path / "a.onnx")], **ONE)
    assert measured.conditions["other_cpus"] >= 0
    busy = dataclasses.replace(measured, conditions=measured.conditions | {"other_cpus": 1e3})
    assert "other work used 1000.0 of its" in beside(busy)[0]


def test_a_fixed_batch_is_measured_at_that_size(tmp_path: Path) -> None:
    paths = [tiny(tmp_path / "free.onnx"), tiny(tmp_path / "two.onnx", (2, 3, 8, 8))]
    assert {row.latency.images for row in quick(paths, batch=(2,)).rows} == {2}


def test_unknown_and_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suffix is not one of \.onnx"):
        quick([tmp_path / "a.txt"])
    with pytest.raises(UsageError, match="there is no file"):
        quick([tmp_path / "a.onnx"])
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"bad")
    with pytest.raises(ImfDeployError, match=r"bad\.onnx is damaged"):
        quick([tiny(tmp_path / "good.onnx"), bad])


@pytest.mark.parametrize("suffix", [".engine", ".trt", ".plan", ".ENGINE"])
def test_an_engine_without_a_gpu(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = fake_engine(tmp_path / f"a{suffix}")
    with pytest.raises(DeviceError) as caught:
        quick([tiny(tmp_path / "a.onnx"), path])
    assert caught.value.exit_code == 4
    assert "TensorRT 10.13.2.6 engine" in str(caught.value)
    assert "no CUDA device was found" in str(caught.value)


def test_another_kind_of_file_is_an_entry_in_each_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    monkeypatch.setitem(WAYS, ".mine", lambda path, choice: [Way(path, 1, runtime="mine")])
    monkeypatch.setitem(RUNTIMES, "mine", lambda way: PyTorchRunner(module, "cpu", 1, (None, 3, 8, 8)))
    path = tmp_path / "a.mine"
    path.write_bytes(b"")
    result: BenchResult = quick([tiny(tmp_path / "a.onnx"), path], **ONE)
    assert [row.runner for row in result.rows] == ["onnxruntime", "pytorch"]


def test_two_runtimes_read_the_same_file(tmp_path: Path) -> None:
    path = tiny(tmp_path / "a.onnx")
    both = {"threads": 1, "runtime": ("onnxruntime", "openvino")}
    rows = quick([path], **both, baseline="a.onnx (openvino)").rows
    assert [(row.name, row.runner) for row in rows] == [
        ("a.onnx (onnxruntime)", "onnxruntime"), ("a.onnx (openvino)", "openvino"),
    ]  # fmt: skip
    assert [row.ratio is None for row in rows] == [False, True]
    assert len({row.sha256 for row in rows}) == 1


def test_weights_run_in_each_mode_of_pytorch(product_file: Path) -> None:
    eager = {"threads": 1, "pytorch": ("eager", "channels-last")}
    result = quick([product_file], **eager)
    assert [row.runner for row in result.rows] == ["pytorch, eager", "pytorch, channels-last"]
    assert [row.name.partition(" ")[2] for row in result.rows] == ["(eager)", "(channels-last)"]
    assert result.settings["image_shape"] == [3, 16, 16]
    assert [row.way["pytorch"] for row in result.rows] == ["eager", "channels-last"]


def test_weights_that_are_no_product_are_reported_so(teacher_file: Path) -> None:
    with pytest.raises(ImfDeployError, match="not a stripped student"):
        quick([teacher_file], **ONE)


@pytest.mark.parametrize("wanted", ["b.onnx", "PATH"])
def test_the_baseline_can_be_chosen(tmp_path: Path, wanted: str) -> None:
    paths = [tiny(tmp_path / "a.onnx"), tiny(tmp_path / "b.onnx")]
    wanted = str(paths[1]) if wanted == "PATH" else wanted
    result = quick(paths, **ONE, baseline=wanted)
    assert [row.ratio is None for row in result.rows] == [False, True]
    assert result.settings["baseline"] == "b.onnx"


@pytest.mark.parametrize("choice", [{"device": "cuda"}, {"provider": ("tensorrt",)}])
def test_a_provider_that_is_not_there(tmp_path: Path, choice: dict[str, Any]) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has it")
    with pytest.raises(DeviceError, match=r"has no (CUDA|Tensorrt)ExecutionProvider here, only .*CPU"):
        quick([tiny(tmp_path / "a.onnx")], **choice)


def test_each_row_starts_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = quick([tiny(tmp_path / "a.onnx")], **ONE, startup=True)
    start = json.loads(json.dumps(result.to_dict()))["rows"][0]["start_up"]
    assert start["load_ms"] > 0
    assert start["first_inference_ms"] > 0
    text = " ".join(beside(result))
    assert "loads in" in text
    assert "first inference" in text


def test_conditions_are_json_and_name_the_machine() -> None:
    content = json.loads(json.dumps(conditions(3)))
    assert content["threads"] == 3
    assert content["cpu"]
    assert content["versions"]["numpy"] == np.__version__
    assert content["usable_cpus"] <= content["cpus"]
    assert isinstance(content["isa"], list)
