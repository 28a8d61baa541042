"""A real ONNX classifier of four operators, and the record of any that a test exported."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.data import DataSet
from imf_deploy.files import sha256_file
from imf_deploy.records.files import OnnxFile


def tiny_onnx(
    path: Path,
    batch: int | str = "batch",
    side: int | str = 8,
    kind: int = TensorProto.FLOAT,
    channels: int = 3,
    classes: int = 4,
) -> Path:
    """Write conv -> relu -> mean -> flatten, ``[N, channels, side, side] -> [N, classes]``."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weight = np.random.default_rng(0).standard_normal((classes, channels, 3, 3)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, [batch, channels, side, side])],
        [helper.make_tensor_value_info("logits", kind, [batch, classes])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def save_record(path: Path, name: str, data: DataSet) -> None:
    """Write the record of an fp32 ONNX file of a ``plain`` product that was trained on some data."""
    OnnxFile(
        path=path,
        sha256=sha256_file(path),
        parent="p" * 64,
        recipe="r",
        model={"name": name},
        preprocess=data.preprocess,
        product="plain",
        source="p" * 64,
        parameters=1,
        macs=2,
        data_config=data.config,
    ).save()
