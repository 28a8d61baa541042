"""Compute what a processor with fp16 arithmetic answers, on one that has none.

ONNX Runtime's CPU provider runs fp16 operators in fp32, and drops the rounding between them: a value that
becomes infinite on a GPU stays finite there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imf_deploy.export.onnx_file import read_model

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def emulate_half(model: ModelProto) -> ModelProto:
    """Return an fp32 model that rounds every fp16 value of a model to fp16, as GPUs do.

    Sums inside an operator are in fp32, as in the kernels of cuDNN and TensorRT.

    Args:
        model: An fp16 model, of which parts may be fp32; not changed.
    """
    import onnx
    from onnx import NodeProto, TensorProto, helper

    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    halves = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _widen(attribute.t)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}/exact"
                nodes.append(
                    helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16)
                )
                nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return inferred


@contextmanager
def emulated_half(path: Path) -> Iterator[Path]:
    """Yield a temporary file with the model that :func:`emulate_half` makes of an fp16 file.

    Raises:
        ImfDeployError: the file is damaged.
    """
    import onnx

    model = read_model(path)
    onnx.load_external_data_for_model(model, str(path.parent))
    with tempfile.TemporaryDirectory() as folder:
        emulated = Path(folder) / path.name
        emulated.write_bytes(emulate_half(model).SerializeToString())
        yield emulated


def _widen(tensor: TensorProto) -> None:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if values.dtype == np.float16:
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
