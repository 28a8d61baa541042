"""The score of an INT8 file relative to its float model on validation images, and the harm of each layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.quantize import layers_of, quantize
from imf_deploy.calib.ranges import Ranges
from imf_deploy.calib.rounding import Rounding
from imf_deploy.data import Split, eval_batches
from imf_deploy.data.choice import choose_images
from imf_deploy.progress import track
from imf_deploy.records.making import LayerHarm, Score
from imf_deploy.runners.base import Batch
from imf_deploy.runners.onnx_data import take_as_checked
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings.quantize import Cpus, Target
from imf_deploy.tasks.classification import CLASSIFICATION, as_logits
from imf_deploy.tasks.task import Task
from imf_deploy.verification.ladder import Array
from imf_deploy.verification.metrics import Metrics


def model_runner(model: FloatModel, path: Path, *, keep_floats: bool = False) -> OnnxRuntimeRunner:
    """Return the runner of a model's own file, or of an INT8 one that was made from it.

    Sums of an INT8 file are exact, as on processors with VNNI and in TensorRT, on any machine.
    """
    classes = model.preprocess.num_classes
    return OnnxRuntimeRunner(
        path, classes=classes, logits=model.logits, exact_sums=True, keep_floats=keep_floats, spin=False
    )


def model_predict(model: FloatModel, runner: OnnxRuntimeRunner) -> Callable[[Tensor], Array]:
    """Return a function of network input, ``[N, C, H, W] -> [N, classes]``, for any batch size."""

    def predict(images: Tensor) -> Array:
        batch = np.ascontiguousarray(images.numpy())
        parts = [batch] if model.free_batch else np.split(batch, len(batch))
        return np.concatenate([runner.infer(part) for part in parts])

    return predict


def file_logits(
    path: Path, model: FloatModel, images: Split | Sequence[Batch], *, keep_floats: bool = False
) -> Array:
    """Return the logits of a file in ONNX Runtime, ``float32 [N, classes]``.

    For a model behind a softmax these are the logarithms of its probabilities.

    Args:
        path: The model's own file, or an INT8 one that was made from it.
        model: The float model, which determines the output to read, and how.
        images: Images to run it on, or batches of network input.
        keep_floats: See :class:`OnnxRuntimeRunner`.
    """
    with model_runner(model, path, keep_floats=keep_floats) as runner:
        logits = np.concatenate([runner.infer(batch) for batch in network_inputs(model, images)])
    return as_logits(logits) if model.probabilities else logits


def network_inputs(model: FloatModel, images: Split | Sequence[Batch]) -> Iterable[Batch]:
    """Return images as batches of network input; those that are prepared already are returned as they are."""
    if not isinstance(images, Split):
        return images
    batches = eval_batches(images, model.preprocess, 100 if model.free_batch else 1)
    return (np.ascontiguousarray(batch.numpy()) for batch, _ in batches)


def content_logits(
    content: bytes, model: FloatModel, images: Split | Sequence[Batch], *, keep_floats: bool = False
) -> Array:
    """Return the logits of an ONNX file that is not yet written, like :func:`file_logits`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        path.write_bytes(content)
        take_as_checked(path)  # this process wrote it, and it has no external data
        return file_logits(path, model, images, keep_floats=keep_floats)


def score(
    logits: Array,
    reference: Array,
    labels: npt.NDArray[np.int64],
    task: Task = CLASSIFICATION,
    metrics: Metrics | None = None,
) -> Score:
    """Compare the logits of an INT8 file with the float model's.

    Args:
        logits: ``[N, classes]``.
        reference: Logits of the float model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        task: Defines which answers are correct, and which are the same.
        metrics: Further metrics to measure, such as those of a gate.
    """
    wide, float_wide = logits.astype(np.float64), reference.astype(np.float64)
    return Score(
        images=len(labels),
        accuracy=float(task.right(wide, labels).mean()),
        float_accuracy=float(task.right(float_wide, labels).mean()),
        agreement=float(task.same(wide, float_wide).mean()),
        divergence=float(task.divergence(logits, reference).mean()),
        mse=float(((wide - float_wide) ** 2).mean()),
        metrics=metrics.measure(logits, reference, labels) if metrics else {},
    )


def rank_layers(
    model: FloatModel,
    ranges: Ranges,
    target: Target,
    validation: Split,
    count: int,
    seed: int,
    cpus: Cpus = "all",
    rounding: Rounding | None = None,
) -> list[LayerHarm]:
    """Return every layer that a target's form quantises, the most harmful first. Source: ours.

    Each layer is quantised with the ranges and in the form of the whole file, and run by the same session.
    Layers are ordered by divergence, because a few dozen images seldom change their class.

    Args:
        model: The float model.
        ranges: Ranges of its activations.
        target: Form of the Q/DQ.
        validation: Images that were not used for calibration.
        count: Maximum number of images to use.
        seed: Seed of their choice.
        cpus: Processors that the file is for.
        rounding: Weights that are rounded already.
    """
    images = choose_images(validation, min(count, len(validation)), seed)
    labels = images.labels.numpy()
    prepared = list(network_inputs(model, images))  # once for all layers
    reference = file_logits(model.artifact.path, model, prepared)
    harms = []
    layers = layers_of(model, target)
    with track("Ranking layers by sensitivity", len(layers)) as advance:
        for layer in layers:
            content = quantize(model, ranges, target, only=layer, cpus=cpus, rounding=rounding)
            result = score(content_logits(content, model, prepared), reference, labels, model.preprocess.task)
            # A layer that breaks the network altogether comes first, not nowhere.
            divergence = result.divergence if np.isfinite(result.divergence) else float("inf")
            harms.append(LayerHarm(layer.name, layer.op_type, divergence, result.mse, result.agreement))
            advance(1)
    return sorted(harms, key=lambda harm: -harm.divergence)
