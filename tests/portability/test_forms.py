"""Forms of quantised graphs that other tools write: emulated as they run, and read as what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.portability.emulate import Emulator
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.portability.static import integer_sums

Array = npt.NDArray[Any]
RunOn = Callable[[str, Path], dict[str, Array]]
Nodes = list[onnx.NodeProto]
S, Z = np.float32(0.02), {np.uint8: np.uint8(3), np.int8: np.int8(3)}


def weights(*shape: int) -> Array:
    random = np.random.default_rng(0)
    values = random.integers(-127, 128, shape)
    return np.where(random.random(shape) < 0.7, np.abs(values), values).astype(np.int8)


def save(
    path: Path,
    nodes: Nodes,
    shape: tuple[int, ...],
    kind: Any,
    tensors: dict[str, Any],
    functions: Any = (),
    external: bool = False,
) -> None:
    """Write a graph from ``x`` to ``y`` and its input."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, ["n", *shape])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    domains = [
        helper.make_opsetid(name, version) for name, version in (("", 17), ("com.microsoft", 1), ("own", 1))
    ]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8, functions=list(functions))
    onnx.save(model, path, save_as_external_data=external, location=f"{path.stem}.bin", size_threshold=64)
    random = np.random.default_rng(1)
    given = random.random((3, *shape)) * 5
    if kind != np.float32:
        given = random.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, (3, *shape))
    np.save(path.with_suffix(".npy"), given.astype(kind))


def quantised(kind: Any = np.uint8, name: str = "x") -> Nodes:
    """Return Q and DQ of an activation, to ``q`` and ``d``."""
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]


def common(kind: Any = np.uint8) -> dict[str, Any]:
    return {"s": S, "z": Z[kind], "ys": np.float32(2), "yz": Z[kind], "ws": S, "wz": np.int8(0)}


def operator(path: Path, op_type: str, kind: Any, **attributes: Any) -> None:
    """Write one integer operator whose activations come in as bytes."""
    shape, values = (
        ((8, 9, 9), weights(16, 8, 3, 3)) if op_type == "QLinearConv" else ((64,), weights(64, 10))
    )
    if attributes.get("channels_last"):
        shape = (9, 9, 8)
    names = ["x", "s", "z", "w", "ws", "wz", "ys", "yz"]
    domain = ""
    if op_type == "QGemm":
        names, domain = ["x", "s", "z", "w", "ws", "wz", "", "ys", "yz"], "com.microsoft"
    if op_type == "MatMulInteger":
        names = ["x", "w", "z", "wz"]
    if attributes.get("channels_last"):
        domain = "com.microsoft"
    node = helper.make_node(op_type, names, ["y"], domain=domain, **attributes)
    save(path, [node], shape, kind, common(kind) | {"w": values})


def dequantised(
    path: Path, between: Nodes, values: Array, op_type: str, shape: tuple[int, ...], **more: Any
) -> None:
    """Write a float operator between Q and DQ, with operators between it and what it reads."""
    nodes = [*quantised(), helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]), *between]
    made = {name for node in between for name in node.output}
    read = ["a" if "a" in made else "d", "v" if "v" in made else "wd"]
    nodes += [
        helper.make_node(op_type, read, ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]
    save(path, nodes, shape, np.float32, common() | {"w": values}, **more)


def in_function(path: Path) -> None:
    """Write a layer whose body is a function of the file."""
    body = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["d", "wd"], ["c"]),
    ]
    domains = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Layer", ["d", "w", "ws", "wz"], ["c"], body, domains)
    nodes = [*quantised(), helper.make_node("Layer", ["d", "w", "ws", "wz"], ["c"], domain="own")]
    nodes += [
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]
    tensors = common() | {"w": weights(8, 4, 3, 3)}
    save(path, nodes, (4, 9, 9), np.float32, tensors, [function])


def in_branch(path: Path) -> None:
    """Write a dynamic product inside a branch, with weights of the branch's own."""
    own = [numpy_helper.from_array(weights(64, 10), "w"), numpy_helper.from_array(S, "ws")]
    product = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "ws"], ["t"], domain="com.microsoft")
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    other = helper.make_node("MatMul", ["x", "f"], ["e"])
    branches = {
        "then_branch": helper.make_graph([product], "then", [], [value], own),
        "else_branch": helper.make_graph(
            [other], "else", [], [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
        ),
    }
    nodes = [helper.make_node("If", ["yes"], ["y"], **branches)]
    save(path, nodes, (64,), np.float32, {"yes": np.True_, "f": np.ones((64, 10), np.float32)})


node = helper.make_node
Write = Callable[[Path], None]
# What saturates, and is emulated; what is exact although its weights have all 8 bits; what is not known.
SATURATING: dict[str, Write] = {
    "QLinearConv": lambda p: operator(p, "QLinearConv", np.uint8),
    "channels last": lambda p: operator(p, "QLinearConv", np.uint8, channels_last=1),
    "QLinearMatMul": lambda p: operator(p, "QLinearMatMul", np.uint8),
    "QGemm": lambda p: operator(p, "QGemm", np.uint8),
    "MatMulInteger": lambda p: operator(p, "MatMulInteger", np.uint8),
    "a vector": lambda p: dequantised(p, [], weights(48), "MatMul", (4, 48)),
    "transposed": lambda p: dequantised(
        p, [node("Transpose", ["wd"], ["v"], perm=[1, 0])], weights(10, 64), "MatMul", (64,)
    ),
    "identity": lambda p: dequantised(p, [node("Identity", ["wd"], ["v"])], weights(64, 10), "MatMul", (64,)),
    "pooled": lambda p: dequantised(
        p, [node("MaxPool", ["d"], ["a"], kernel_shape=[2, 2])], weights(8, 4, 3, 3), "Conv", (4, 9, 9)
    ),
    "weights in another file": lambda p: dequantised(
        p, [], weights(8, 4, 3, 3), "Conv", (4, 9, 9), external=True
    ),
    "function": in_function,
}
EXACT: dict[str, Write] = {
    f"{name}, int8": lambda p, name=name: operator(p, name, np.int8)  # type: ignore[misc]
    for name in ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulInteger")
}
UNKNOWN: dict[str, Write] = {"branch": in_branch}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every graph and its input."""
    place = tmp_path_factory.mktemp("forms")
    for name, write in (SATURATING | EXACT | UNKNOWN).items():
        write(place / f"{name}.onnx")
    return place


@pytest.fixture(scope="module")
def there(run_on: RunOn, folder: Path) -> dict[str, Array]:
    """What an emulated processor without VNNI makes of them, by name."""
    return {key.partition("/")[0]: value for key, value in run_on("haswell", folder).items()}


def run(path: Path, saturate: bool) -> Array:
    (result,) = Emulator(open_session_graph(path), saturate).run(np.load(path.with_suffix(".npy")))
    return result


@pytest.mark.parametrize("name", SATURATING)
def test_what_saturates(folder: Path, there: dict[str, Array], name: str) -> None:
    path = folder / f"{name}.onnx"
    assert open_session_graph(path).saturating
    assert np.array_equal(run(path, saturate=True), there[name])
    assert not np.array_equal(run(path, saturate=False), there[name])
    sums = integer_sums(onnx.load(path, load_external_data=False))
    assert sums.saturating or sums.unread
    assert "portable" not in sums.sentence


@pytest.mark.parametrize("name", EXACT)
def test_two_int8_do_not_saturate(folder: Path, there: dict[str, Array], name: str) -> None:
    path = folder / f"{name}.onnx"
    assert not open_session_graph(path).saturating
    assert np.array_equal(run(path, saturate=False), there[name])
    assert integer_sums(onnx.load(path)).sentence.startswith("portable")


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known(folder: Path, name: str) -> None:
    path = folder / f"{name}.onnx"
    assert open_session_graph(path).unknown == ("DynamicQuantizeMatMul",)
    assert "unknown for" in integer_sums(onnx.load(path)).sentence
