"""The emulation of saturating sums, bit for bit beside ONNX Runtime's own kernels on such a processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.portability.assess import assess
from imf_deploy.portability.emulate import Emulator
from imf_deploy.portability.graph import open_session_graph

Array = npt.NDArray[Any]
RunOn = Callable[[str, Path], dict[str, Array]]


def full_range(shape: tuple[int, ...], random: np.random.Generator, kind: Any = np.int8) -> Array:
    """Return weights of all 8 bits, most of them of one sign, so that sums saturate often."""
    if kind == np.uint8:
        return random.integers(0, 256, shape).astype(np.uint8)
    weights = random.integers(-127, 128, shape)
    return np.where(random.random(shape) < 0.7, np.abs(weights), weights).astype(np.int8)


class Graph:
    """A graph of one input that is written step by step, with Q/DQ as exporters place it."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node and return its output."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def quantised(self, name: str, scale: float, zero: int, kind: Any) -> str:
        """Append Q and DQ of an activation."""
        self.tensors |= {f"{name}.s": np.float32(scale), f"{name}.z": np.array(zero, kind)}
        self.add("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], f"{name}.q")
        return self.add("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], f"{name}.d")

    def weights(self, values: Array, axis: int | None, zero: int = 0) -> str:
        """Append DQ of weights, with a scale for every index of an axis, or one in all."""
        count = (values.shape[axis],) if axis is not None else ()
        scales = (self.random.random(count) * 0.01 + 0.001).astype(np.float32)
        self.tensors |= {"w": values, "w.s": np.asarray(scales), "w.z": np.full(count, zero, values.dtype)}
        attributes = {} if axis is None else {"axis": axis}
        return self.add("DequantizeLinear", ["w", "w.s", "w.z"], "w.d", **attributes)

    def bias(self, count: int, scale: float) -> str:
        """Append DQ of an int32 bias, at input scale x weight scale."""
        scales = np.asarray(self.tensors["w.s"] * np.float32(scale))
        values = self.random.integers(-5000, 5000, count).astype(np.int32)
        self.tensors |= {"b": values, "b.s": scales, "b.z": np.zeros(scales.shape, np.int32)}
        attributes = {"axis": 0} if scales.ndim else {}
        return self.add("DequantizeLinear", ["b", "b.s", "b.z"], "b.d", **attributes)

    def save(self, folder: Path, name: str, output: str, batch: int = 3) -> Path:
        """Write ``NAME.onnx`` and its input, ``NAME.npy``."""
        path = folder / f"{name}.onnx"
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self.shape])]
        outputs = [helper.make_empty_tensor_value_info(output)]
        tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.tensors.items()]
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, tensors)
        onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
        given = np.random.default_rng(1).random((batch, *self.shape)) * 5
        np.save(path.with_suffix(".npy"), given.astype(np.float32))
        return path


def convolution(
    folder: Path,
    name: str,
    channels: tuple[int, int],
    kernel: tuple[int, ...],
    size: int = 9,
    kind: Any = np.uint8,
    weights: Any = np.int8,
    per_channel: bool = True,
    weight_zero: int = 0,
    **attributes: Any,
) -> None:
    """Write a quantised convolution of any rank, with a bias."""
    inputs, outputs = channels
    graph = Graph((inputs, *[size] * len(kernel)))
    given = graph.quantised("x", 0.02, 3, kind)
    shape = (outputs, inputs // attributes.get("group", 1), *kernel)
    own = graph.weights(full_range(shape, graph.random, weights), 0 if per_channel else None, weight_zero)
    spread = 0.02 * 0.005 * 127 * 70 * np.prod(shape[1:])
    graph.add("Conv", [given, own, graph.bias(outputs, 0.02)], "y", kernel_shape=kernel, **attributes)
    graph.save(folder, name, graph.quantised("y", spread / 200, 7, kind))


def product(
    folder: Path,
    name: str,
    sizes: tuple[int, int],
    op_type: str = "Gemm",
    transposed: bool = False,
    kind: Any = np.uint8,
    weights: Any = np.int8,
    quantised: bool = False,
    stack: tuple[int, ...] = (),
    bias: bool = False,
) -> None:
    """Write a quantised matrix product, whose result is float or 8 bits."""
    depth, outputs = sizes
    graph = Graph((*stack, depth))
    given = graph.quantised("x", 0.02, 3, kind)
    shape = (outputs, depth) if transposed else (depth, outputs)
    zero = 0 if weights == np.int8 else 120
    own = [graph.weights(full_range(shape, graph.random, weights), 0 if transposed else 1, zero)]
    own += [graph.bias(outputs, 0.02)] if bias else []
    attributes = {"transB": int(transposed)} if op_type == "Gemm" else {}
    graph.add(op_type, [given, *own], "y", **attributes)
    graph.save(folder, name, graph.quantised("y", depth / 20, 7, kind) if quantised else "y")


def two_activations(folder: Path, name: str, kind: Any) -> None:
    """Write the product of two activations, as attention has it."""
    graph = Graph((4, 32))
    given = graph.quantised("x", 0.02, 3, kind)
    graph.add("Transpose", [given], "t", perm=[0, 2, 1])
    graph.add("MatMul", [given, graph.quantised("t", 0.02, 3, kind)], "y")
    graph.save(folder, name, graph.quantised("y", 0.5, 7, kind))


def dynamic(folder: Path, name: str, op_type: str) -> None:
    """Write a layer whose activations are quantised by their own range, as ``quantize_dynamic`` does."""
    shape, weights = ((64,), (64, 10)) if op_type == "MatMulInteger" else ((4, 9, 9), (8, 4, 3, 3))
    graph = Graph(shape)
    graph.tensors |= {"w": full_range(weights, graph.random), "w.z": np.int8(0), "w.s": np.float32(0.01)}
    graph.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    graph.add(op_type, ["q", "w", "z", "w.z"], "i")
    graph.add("Cast", ["i"], "f", to=TensorProto.FLOAT)
    graph.save(folder, name, graph.add("Mul", ["f", graph.add("Mul", ["s", "w.s"], "scale")], "y"))


def fused(folder: Path, name: str) -> None:
    """Write the operator that ONNX Runtime fuses a dynamic product, its scales and a bias into."""
    graph = Graph((64,))
    graph.tensors |= {
        "w": full_range((64, 10), graph.random),
        "w.z": graph.random.integers(-3, 4, 10).astype(np.int8),
        "w.s": (graph.random.random(10) * 0.01).astype(np.float32),
        "b": graph.random.normal(0, 1, 10).astype(np.float32),
    }
    graph.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    inputs = ["q", "w", "s", "w.s", "z", "w.z", "b"]
    graph.save(folder, name, graph.add("MatMulIntegerToFloat", inputs, "y", domain="com.microsoft"))


Write = Callable[[Path, str], None]
SATURATING: dict[str, Write] = {
    "three channels": lambda f, n: convolution(f, n, (3, 16), (3, 3), pads=[1] * 4),
    "eight channels": lambda f, n: convolution(f, n, (8, 16), (3, 3), pads=[1] * 4),
    "pointwise": lambda f, n: convolution(f, n, (16, 32), (1, 1)),
    "odd, strided": lambda f, n: convolution(f, n, (5, 7), (3, 3), pads=[1] * 4, strides=[2, 2]),
    "two groups": lambda f, n: convolution(f, n, (8, 12), (3, 3), pads=[1] * 4, group=2),
    "depthwise, two outputs each": lambda f, n: convolution(f, n, (6, 12), (3, 3), pads=[1] * 4, group=6),
    "dilated": lambda f, n: convolution(f, n, (8, 8), (3, 3), pads=[2] * 4, dilations=[2, 2]),
    "uneven padding": lambda f, n: convolution(f, n, (8, 8), (3, 2), pads=[0, 1, 2, 0]),
    "int8 activations": lambda f, n: convolution(f, n, (8, 16), (3, 3), kind=np.int8, pads=[1] * 4),
    "int8 activations, odd": lambda f, n: convolution(f, n, (3, 5), (3, 3), kind=np.int8, pads=[1] * 4),
    "one scale": lambda f, n: convolution(f, n, (8, 16), (3, 3), per_channel=False, pads=[1] * 4),
    "weights with a zero point": lambda f, n: convolution(
        f, n, (8, 16), (3, 3), per_channel=False, weight_zero=5, pads=[1] * 4
    ),
    "one dimension": lambda f, n: convolution(f, n, (6, 10), (3,), 20, pads=[1] * 2),
    "three dimensions": lambda f, n: convolution(f, n, (4, 8), (3, 3, 3), 5, pads=[1] * 6),
    "same upper": lambda f, n: convolution(f, n, (4, 16), (4, 4), auto_pad="SAME_UPPER", strides=[2, 2]),
    "same lower": lambda f, n: convolution(f, n, (4, 16), (4, 4), 10, auto_pad="SAME_LOWER", strides=[2, 2]),
    "valid": lambda f, n: convolution(f, n, (64, 64), (5, 5), 7, auto_pad="VALID"),
    "deep": lambda f, n: convolution(f, n, (512, 64), (3, 3), 4, pads=[1] * 4),
    "gemm": lambda f, n: product(f, n, (64, 10), transposed=True, bias=True),
    "gemm, odd": lambda f, n: product(f, n, (63, 10), transposed=True),
    "gemm, not transposed": lambda f, n: product(f, n, (33, 17), bias=True),
    "gemm, 8 bits": lambda f, n: product(f, n, (64, 32), quantised=True, bias=True),
    "gemm, int8": lambda f, n: product(f, n, (64, 32), quantised=True, kind=np.int8),
    "gemm, deep": lambda f, n: product(f, n, (2000, 10), transposed=True),
    "matmul": lambda f, n: product(f, n, (64, 10), "MatMul", quantised=True),
    "matmul, stack": lambda f, n: product(f, n, (31, 10), "MatMul", quantised=True, stack=(4,)),
    "matmul, float": lambda f, n: product(f, n, (64, 10), "MatMul"),
    "dynamic": lambda f, n: dynamic(f, n, "MatMulInteger"),
    "fused": fused,
}
PORTABLE: dict[str, Write] = {
    "depthwise": lambda f, n: convolution(f, n, (16, 16), (3, 3), pads=[1] * 4, group=16),
    "depthwise, odd": lambda f, n: convolution(f, n, (7, 7), (3, 3), pads=[1] * 4, group=7, strides=[2, 2]),
    "uint8 weights": lambda f, n: convolution(
        f, n, (8, 16), (3, 3), weights=np.uint8, weight_zero=120, pads=[1] * 4
    ),
    "gemm, uint8 weights": lambda f, n: product(f, n, (64, 10), transposed=True, weights=np.uint8),
    "two activations": lambda f, n: two_activations(f, n, np.uint8),
    "two activations, int8": lambda f, n: two_activations(f, n, np.int8),
    "dynamic convolution": lambda f, n: dynamic(f, n, "ConvInteger"),
}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every graph and its input."""
    folder = tmp_path_factory.mktemp("graphs")
    for name, write in (SATURATING | PORTABLE).items():
        write(folder, name)
    return folder


@pytest.fixture(scope="module")
def answers(run_on: RunOn, graphs: Path) -> dict[str, Array]:
    """What an emulated processor without VNNI makes of them, by name."""
    return {key.partition("/")[0]: value for key, value in run_on("haswell", graphs).items()}


def emulated(path: Path, saturate: bool) -> Array:
    (result,) = Emulator(open_session_graph(path), saturate).run(np.load(path.with_suffix(".npy")))
    return result


@pytest.mark.parametrize("name", SATURATING)
def test_saturating_sums_are_those_of_the_processor(
    graphs: Path, answers: dict[str, Array], name: str
) -> None:
    path = graphs / f"{name}.onnx"
    there, here = emulated(path, saturate=True), emulated(path, saturate=False)
    assert open_session_graph(path).saturating
    assert np.array_equal(there, answers[name])
    assert not np.array_equal(there, here)
    given = np.load(path.with_suffix(".npy"))
    result = assess(path, [given[:1], given[1:]], onnx.load(path).graph.output[0].name).portability
    assert (result.status, result.images) == ("differs", 3)
    assert result.max_abs_diff == np.abs(there.astype(np.float64) - here).max()


@pytest.mark.parametrize("name", PORTABLE)
def test_what_cannot_saturate_is_the_same_there(graphs: Path, answers: dict[str, Array], name: str) -> None:
    path = graphs / f"{name}.onnx"
    assert not open_session_graph(path).saturating
    assert assess(path, [], onnx.load(path).graph.output[0].name).portability.status == "portable"
    assert np.array_equal(emulated(path, saturate=False), answers[name])


@pytest.mark.parametrize("name", [*SATURATING, *PORTABLE])
def test_exact_sums_are_those_of_a_session_that_widens(
    graphs: Path, exact: dict[str, Array], name: str
) -> None:
    assert np.array_equal(emulated(graphs / f"{name}.onnx", saturate=False), exact[name])


@pytest.fixture(scope="module")
def exact(graphs: Path) -> dict[str, Array]:
    """What this machine answers with sums that do not saturate, whatever its processor."""
    from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

    found = {}
    for path in graphs.glob("*.onnx"):
        with OnnxRuntimeRunner(path, threads=1, exact_sums=True) as runner:
            found[path.stem] = runner.infer(np.load(path.with_suffix(".npy")))
    return found


def test_an_operator_that_is_not_emulated_is_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {
        "w": full_range((16, 48), random),
        "b": np.zeros(48, np.float32),
        "xs": np.float32(0.02),
        "ws": np.float32(0.01),
        "m": np.ones((1, 4), np.int32),
        "xz": np.uint8(0),
        "wz": np.int8(0),
    }
    graph = Graph((4, 16))
    graph.tensors = {name: np.asarray(value) for name, value in tensors.items()}
    graph.add("QuantizeLinear", ["x", "xs", "xz"], "q")
    inputs = ["q", "w", "b", "xs", "ws", "", "xz", "wz"]
    output = graph.add("QAttention", inputs, "y", domain="com.microsoft", num_heads=2)
    result = assess(graph.save(tmp_path, "attention", output), [], output).portability
    assert result.status == "unknown"
    assert "QAttention" in result.sentence
