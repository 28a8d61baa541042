"""A file on other processors: the same gate, on emulated sums of INT8 and emulated rounding of fp16."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch

from imf_deploy.data import Split, eval_batches
from imf_deploy.export.half_arithmetic import emulated_half
from imf_deploy.portability.assess import assess
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import SATURATING, Portability
from imf_deploy.records.files import DeployableFile, OnnxFile
from imf_deploy.records.metrics import missed
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings import Gate
from imf_deploy.tasks.names import OUTPUT
from imf_deploy.usage import TENSORRT_ONLY
from imf_deploy.verification.ladder import Array
from imf_deploy.verification.metrics import Metrics
from imf_deploy.verification.run import runner_logits

HALF_ARITHMETIC = "processors with fp16 arithmetic"
_PIXELS = 1 << 19
"""Fraction of the images that are emulated, if that is more than ``_LEAST`` images."""
_LEAST = 200
_BATCH_PIXELS = 1 << 18
"""Size of a batch: the matrices of VGG-16 at 224 pixels take 29 MB per image."""


def runs_in_integers_on_cpus(artifact: DeployableFile) -> TypeGuard[OnnxFile]:
    """Return whether a file is INT8 for ONNX Runtime's CPU provider; TensorRT's sums never saturate."""
    return (
        isinstance(artifact, OnnxFile)
        and artifact.precision == "int8"
        and not (artifact.calibration and artifact.calibration.target == "tensorrt")
    )


def logits_output(artifact: DeployableFile) -> str:
    """Return the output that a calibration chose for the logits; empty if the record names none."""
    made = artifact.calibration if isinstance(artifact, OnnxFile) else None
    return made.logits.output if made else ""


def portability_of(
    artifact: OnnxFile, split: Split, preprocess: Preprocess
) -> tuple[Portability, Array | None, npt.NDArray[np.int64]]:
    """Emulate a file on a part of a split, spread evenly over it.

    Args:
        artifact: An INT8 file for ONNX Runtime's CPU provider.
        split: Images to run it on: more if they are small, at least 200 or all.
        preprocess: Preprocessing of the file.

    Returns:
        The result; the logits on processors whose sums saturate, or ``None`` if no sum can; and the positions
        of the images in the split.
    """
    pixels = math.prod(preprocess.shape[1:])
    batch = max(_BATCH_PIXELS // pixels, 1)
    positions = _spread(split, pixels)

    def batches() -> Iterator[npt.NDArray[Any]]:
        for images, _ in eval_batches(split.subset(torch.from_numpy(positions)), preprocess, batch):
            yield np.ascontiguousarray(images.numpy())

    result = assess(artifact.path, batches(), logits_output(artifact) or OUTPUT, preprocess.task)
    return result.portability, result.logits, positions


def tensorrt_alone(files: Sequence[DeployableFile]) -> list[str]:
    """Return a note on the ONNX files that are for TensorRT alone; empty if there are none."""
    names = [file.path.name for file in files if TENSORRT_ONLY in file.usage]
    return [f"For TensorRT alone, other runtimes answer otherwise: {', '.join(names)}"] if names else []


def describe(files: Sequence[DeployableFile]) -> list[str]:
    """Return the processors on which verified INT8 files answer alike, one sentence for each result."""
    groups: dict[str, list[str]] = {}
    for file in files:
        if file.verify and (portability := file.verify.portability):
            made = " (made for processors with VNNI)" if portability.cpus == "vnni" else ""
            groups.setdefault(portability.sentence + made, []).append(file.path.name)
    return [f"{sentence}: {', '.join(names)}" for sentence, names in groups.items()]


def judge(
    artifact: OnnxFile,
    split: Split,
    preprocess: Preprocess,
    reference: Array,
    gate: Gate,
    metrics: Metrics | None = None,
) -> tuple[Portability, str]:
    """Return a file's answers on all processors, and why it misses its gate on some.

    Args:
        artifact: An INT8 file for ONNX Runtime's CPU provider.
        split: The test split.
        preprocess: Preprocessing of the file.
        reference: Logits of the PyTorch model on the split, ``[N, classes]``.
        gate: Gate that the file must pass on every processor that it is for.
        metrics: The metrics that the gate names; by default they are looked up.

    Returns:
        The part of its record; and the reason, empty if the gate holds or if the file is only for processors
        with VNNI.
    """
    portability, logits, positions = portability_of(artifact, split, preprocess)
    record = replace(portability, cpus=artifact.calibration.cpus if artifact.calibration else "all")
    if logits is None or record.cpus == "vnni":
        return record, ""
    reason = _missed(logits, reference, positions, split, preprocess, gate, metrics)
    return record, f"on {SATURATING}, {reason} ({len(positions)} images)" if reason else ""


def judge_half(
    artifact: DeployableFile,
    split: Split,
    preprocess: Preprocess,
    reference: Array,
    gate: Gate,
    metrics: Metrics | None = None,
) -> str:
    """Return why an fp16 ONNX file misses its gate on a processor with fp16 arithmetic; empty if it does not.

    ONNX Runtime's CPU provider computes fp16 operators in fp32, where nothing overflows.

    Args:
        artifact: An fp16 ONNX file.
        split: The test split, of which a part is run.
        preprocess: Preprocessing of the file.
        reference: Logits of the PyTorch model on the split, ``[N, classes]``.
        gate: Gate that the file must pass.
        metrics: The metrics that the gate names; by default they are looked up.
    """
    positions = _spread(split, math.prod(preprocess.shape[1:]))
    with (
        emulated_half(artifact.path) as path,
        OnnxRuntimeRunner(path, classes=preprocess.num_classes) as runner,
    ):
        logits = runner_logits(runner, split.subset(torch.from_numpy(positions)), preprocess)
    reason = _missed(logits, reference, positions, split, preprocess, gate, metrics)
    return f"on {HALF_ARITHMETIC}, {reason} ({len(positions)} images)" if reason else ""


def _spread(split: Split, pixels: int) -> npt.NDArray[np.int64]:
    """Return positions of images to emulate, spread evenly over a split."""
    count = min(max(_PIXELS // pixels, _LEAST), len(split))
    return np.linspace(0, len(split) - 1, count).round().astype(np.int64)


def _missed(
    logits: Array,
    reference: Array,
    positions: npt.NDArray[np.int64],
    split: Split,
    preprocess: Preprocess,
    gate: Gate,
    metrics: Metrics | None,
) -> str:
    """Return why the logits of a part of a split miss a gate; empty if they do not."""
    if not np.isfinite(logits).all():
        return "some logits are not finite"
    labels = split.labels.numpy()[positions]
    expected, task = reference[positions], preprocess.task
    metrics = metrics or Metrics.of(gate, preprocess)
    measured = metrics.measure(logits, expected, labels) if gate.gate else {}
    # A class may have no image in a part of the split; the whole split is judged apart.
    limits = [(name, limit) for name, limit in gate.gate if measured[name].reference is not None]
    return missed(
        replace(gate, gate=tuple(limits)),
        float(task.right(logits, labels).mean()),
        float(task.right(expected, labels).mean()),
        float(task.same(logits, expected).mean()),
        measured,
    )
