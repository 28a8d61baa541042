"""Give a finished ONNX file another input or output: bytes, images of any size, probabilities, best classes.

The operators are added around a graph that is already converted or quantised, so its own arithmetic does not
change. On images of the network's size, the added input gives exactly the values of ``Preprocess.normalize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.opset import raise_opset
from imf_deploy.image_size import sides
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings.export import InterfaceSettings
from imf_deploy.tasks.names import INPUT, OUTPUT

if TYPE_CHECKING:
    from onnx import ModelProto

BEST = 5
"""Number of classes of a ``top5`` file, unless the network has fewer."""
PROBABILITIES = "probabilities"
CLASSES = "classes"
ANTIALIASING_OPSET = 18
_MODES = {"bilinear": ("linear", {}), "bicubic": ("cubic", {"cubic_coeff_a": -0.5})}
"""Filters of ``Resize`` that equal those of Pillow."""


def check_interface(interface: InterfaceSettings, preprocess: Preprocess) -> None:
    """Refuse an interface that the images of a network do not allow.

    Raises:
        UsageError: naming the option and another one.
    """
    if interface.input != "float" and preprocess.resize == "input":
        raise UsageError(
            f"`input` {interface.input} needs to know how images become the network's input, and it was only "
            "given tensors",
            "Give the network its preprocess, or use `input` float",
        )
    if interface.input_size == "network":
        return
    if interface.input != "uint8-nhwc":
        raise UsageError(
            f"`input_size` any resizes bytes, but `input` is {interface.input}", "Use `input` uint8-nhwc"
        )
    if preprocess.resize != "crop":
        raise UsageError(
            "the images of this network are not resized, so it has no rule for other sizes",
            "Use `input_size` network",
        )
    if preprocess.interpolation not in _MODES:
        raise UsageError(
            f"ONNX has no {preprocess.interpolation} filter, by which this network's images are scaled",
            "Use `input_size` network",
        )


def with_interface(model: ModelProto, interface: InterfaceSettings, preprocess: Preprocess) -> ModelProto:
    """Return a model with another input and output.

    Args:
        model: Model with the input ``images``, ``float32 [batch, C, H, W]``, and the output ``logits``,
            ``float32 [batch, classes]``; may be changed in place.
        interface: The input and output to give it; checked by :func:`check_interface`.
        preprocess: How images become its float input.

    Returns:
        The model. Its input is ``uint8 [batch, H, W, C]`` or ``[batch, C, H, W]``, or unchanged.
        Its output is ``logits``; or ``probabilities``, ``float32 [batch, classes]``; or ``probabilities`` and
        ``classes``, ``float32`` and ``int64 [batch, 5]``, the most probable first.

    Raises:
        ImfDeployError: the model has another input or output, or its opset cannot be raised.
    """
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    if names != [INPUT, OUTPUT]:
        raise ImfDeployError(
            f"the file has the inputs and outputs {', '.join(names)}, not {INPUT} and {OUTPUT}",
            "Use a file that imf-deploy export wrote",
        )
    if interface.input_size == "any":
        model = raise_opset(model, ANTIALIASING_OPSET)
    graph = _Additions(model)
    if interface.input != "float":
        _add_input(graph, interface, preprocess)
    if interface.head != "logits":
        _add_head(graph, interface.head, preprocess.num_classes)
    graph.finish()
    _rename_input(model, interface.input_name)
    return model


def _rename_input(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        for place, given in enumerate(node.input):
            if given == INPUT:
                node.input[place] = name
    model.graph.input[0].name = name


class _Additions:
    """Nodes and constants that are put before and after the nodes of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param or "batch"
        self._before: list[Any] = []
        self._after: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        """Store a constant and return its name."""
        from onnx import numpy_helper

        name = f"interface/{name}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def before(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node before the network and return its output."""
        from onnx import helper

        name = f"interface/{output}"
        self._before.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def after(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Add a node after the network."""
        from onnx import helper

        self._after.append(helper.make_node(operator, inputs, outputs, f"interface/{operator}", **attributes))

    def finish(self) -> None:
        """Put the nodes in the order of their data."""
        from imf_deploy.export.nodes import copy_node

        nodes = [*self._before, *(copy_node(node) for node in self.graph.node), *self._after]
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _add_input(graph: _Additions, interface: InterfaceSettings, preprocess: Preprocess) -> None:
    from onnx import TensorProto, helper

    channels, height, width = preprocess.picture_shape
    size: list[int | str] = ["height", "width"] if interface.input_size == "any" else [height, width]
    last = interface.input == "uint8-nhwc"
    shape = [graph.batch, *size, channels] if last else [graph.batch, channels, *size]
    normal = "interface/normalised"
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT:
                node.input[place] = normal
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    values = INPUT
    if interface.input_size == "any":
        # Scaled as bytes, because Pillow rounds scaled pixels.
        values = graph.before("Transpose", [INPUT], "channels_first", perm=[0, 3, 1, 2])
        values = _add_resize(graph, values, preprocess)
    # First of all, because TensorRT does nothing else with bytes.
    values = graph.before("Cast", [values], "pixels", to=TensorProto.FLOAT)
    if last and interface.input_size != "any":
        values = graph.before("Transpose", [values], "channels_first", perm=[0, 3, 1, 2])
    # As in Preprocess.normalize, so that every value is the same. One channel is copied by broadcasting.
    mean, std = (
        np.array(numbers, np.float32).reshape(1, -1, 1, 1) * np.float32(255)
        for numbers in (preprocess.mean, preprocess.std)
    )
    centred = graph.before("Sub", [values, graph.constant("mean", mean)], "centred")
    graph.before("Div", [centred, graph.constant("std", std)], "normalised")


def _add_resize(graph: _Additions, pixels: str, preprocess: Preprocess) -> str:
    """Scale an image and cut out its middle, as :meth:`Preprocess.load` does; return the result."""
    from onnx import TensorProto

    down, across = sides(preprocess.size)
    wanted = np.array([down, across], np.int64)
    # The shorter side of an input without a margin; in float64, as Python computes the scaled size.
    covered = preprocess.resize_to * (wanted / wanted.min())
    given = graph.before("Shape", [INPUT], "given_size", start=1, end=3)
    exact = graph.before("Cast", [given], "given_size_exact", to=TensorProto.DOUBLE)
    ratios = graph.before("Div", [graph.constant("covered", covered), exact], "ratios")
    ratio = graph.before("ReduceMax", [ratios, graph.constant("first", [0])], "ratio", keepdims=1)
    exactly = graph.before("Mul", [exact, ratio], "scaled_exact")
    rounded = graph.before("Cast", [graph.before("Round", [exactly], "scaled_rounded")], "scaled_whole",
                           to=TensorProto.INT64)  # fmt: skip
    size = graph.constant("size", wanted)
    scaled = graph.before("Max", [rounded, size], "scaled_size")
    mode, attributes = _MODES[preprocess.interpolation]
    # ONNX Runtime's transpose optimiser does not understand the attribute axes.
    kept = [
        graph.before("Shape", [INPUT], "images", start=0, end=1),
        graph.before("Shape", [INPUT], "channels", start=3, end=4),
    ]
    sizes = graph.before("Concat", [*kept, scaled], "sizes", axis=0)
    resized = graph.before(
        "Resize", [pixels, "", "", sizes], "resized", mode=mode, antialias=1, exclude_outside=1, **attributes
    )
    margin = graph.before("Sub", [scaled, size], "margin")
    start = graph.before("Div", [margin, graph.constant("halves", np.array([2, 2], np.int64))], "start")
    end = graph.before("Add", [start, size], "end")
    return graph.before("Slice", [resized, start, end, graph.constant("axes", [2, 3])], "cropped")


def _add_head(graph: _Additions, head: str, classes: int) -> None:
    from onnx import TensorProto, helper

    probabilities = PROBABILITIES if head == PROBABILITIES else "interface/probabilities"
    graph.after("Softmax", [OUTPUT], [probabilities], axis=1)
    columns = classes if head == PROBABILITIES else min(BEST, classes)
    outputs = [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [graph.batch, columns])]
    if head != PROBABILITIES:
        best = graph.constant("best", [columns])
        graph.after("TopK", [probabilities, best], [PROBABILITIES, CLASSES], axis=1)
        outputs.append(helper.make_tensor_value_info(CLASSES, TensorProto.INT64, [graph.batch, columns]))
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
