"""The rung of a file with another input or output: the same answers as the file that it was made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper
from PIL import Image

from imf_deploy.data import Split, eval_batches
from imf_deploy.export.interface import with_interface
from imf_deploy.portability.session import cpu_session
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import Rung
from imf_deploy.records.files import OnnxFile
from imf_deploy.runners.interface import as_input
from imf_deploy.settings.export import InterfaceSettings
from imf_deploy.tasks.names import INPUT, OUTPUT
from imf_deploy.verification.ladder import Array, Tolerance, rung_name, step

_BATCH = 100
SAME = Tolerance(1e-5, 0.999)
"""The arithmetic of the network is the same, and so are its inputs; only a softmax is rounded."""
_LEVELS = 2
"""Largest difference in levels of a pixel that is scaled by the graph and by Pillow."""
_SIZES = ((97, 61), (61, 97), (640, 480), (19, 23))


def interface_rung(artifact: OnnxFile, origin: OnnxFile, split: Split, against: str) -> Rung:
    """Compare a file with the file that it was made from, on a whole split.

    Logits and probabilities are compared with those of the origin. The classes of a ``top5`` file are looked
    up in the probabilities of the origin, so that classes of equal probability may change places.

    Args:
        artifact: The file.
        origin: Its parent, with float input and logits.
        split: Images to run both on.
        against: Name of the preceding rung.
    """
    preprocess, interface = artifact.preprocess, artifact.interface
    sessions = [cpu_session(file.path) for file in (origin, artifact)]
    logits, own = [], []
    for images, _ in eval_batches(split, preprocess, _BATCH):
        batch = np.ascontiguousarray(images.numpy())
        logits.append(sessions[0].run([OUTPUT], {INPUT: batch})[0])
        own.append(sessions[1].run(None, {interface.input_name: as_input(batch, interface, preprocess)}))
    before, after = np.concatenate(logits), [np.concatenate(parts) for parts in zip(*own, strict=True)]
    name = f"{rung_name('onnx', artifact.precision)}, {interface.suffix}"
    if interface.head == "logits":
        rung = step(name, against, after[0], before, SAME, preprocess.task)
    else:
        probabilities = _softmax(before)
        if interface.head == "top5":
            after[0] = _spread(probabilities, *after)
        rung = step(name, against, after[0], probabilities, SAME, preprocess.task)
    if interface.input_size == "any" and (levels := scaling_difference(interface, preprocess)) > _LEVELS:
        reason = f"pixels that the graph scales differ by {levels} of 255 from those that Pillow scales"
        return replace(rung, status="fail", reason=reason)
    return rung


def _spread(probabilities: Array, best: Array, classes: npt.NDArray[np.int64]) -> Array:
    """Return all probabilities of the origin, with those of the best classes in their places.

    They are put in order of both, so that a class in a wrong place is a difference.
    """
    spread = probabilities.copy()
    rows = np.arange(len(best))[:, None]
    spread[rows, classes] = best
    expected = -np.sort(-probabilities, axis=1)[:, : best.shape[1]]
    wrong = (np.abs(best - expected) > SAME.relative).any(1) | (np.diff(np.sort(classes), axis=1) == 0).any(1)
    spread[wrong] = np.nan
    return spread


def _softmax(logits: Array) -> Array:
    wide = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    softmax: Array = (wide / wide.sum(1, keepdims=True)).astype(np.float32)
    return softmax


def scaling_difference(interface: InterfaceSettings, preprocess: Preprocess) -> int:
    """Return the largest difference between a graph and ``Preprocess.load``, in levels of a pixel, 0 to 255.

    Both scale and crop smooth noise of several sizes.
    """
    shape = ["batch", *preprocess.shape]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in (INPUT, OUTPUT)]
    graph = helper.make_graph([helper.make_node("Identity", [INPUT], [OUTPUT])], "scaling", *ends)
    interface = replace(interface, input_name=INPUT)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = cpu_session(with_interface(model, interface, preprocess).SerializeToString())
    generator, largest = np.random.default_rng(0), 0
    for width, height in _SIZES:
        noise = generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        image = image.convert(preprocess.color)
        pixels = np.asarray(image).reshape(1, height, width, -1)
        expected = preprocess.normalize_array(preprocess.load(image)[None])
        (found,) = session.run(None, {INPUT: pixels})
        std = np.array(preprocess.std).reshape(1, -1, 1, 1) * 255
        largest = max(largest, int(np.rint(np.abs(found - expected) * std).max()))
    return largest
