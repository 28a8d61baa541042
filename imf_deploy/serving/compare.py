"""A candidate against the current file on the same images: what changes, and whether it passes its gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import UsageError
from imf_deploy.forms import Measured as Finite
from imf_deploy.forms import Whole
from imf_deploy.records.metrics import Interval, MetricValue, missed
from imf_deploy.serving.classifier import Classifier
from imf_deploy.serving.evaluate import Evaluation, describe, load_metrics
from imf_deploy.serving.labelled import Judged
from imf_deploy.serving.latency import SideBySide, side_by_side
from imf_deploy.settings.serving import ReplacementGate
from imf_deploy.tasks.metric import known_metric
from imf_deploy.tasks.paired import Paired

Mask = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True)
class ClassFlips:
    """One class that has images.

    Attributes:
        label: Name of the class.
        images: Number of its images.
        current_right: Number of its images that the current file classifies correctly.
        candidate_right: Number of its images that the candidate classifies correctly.
        gained: Number of its images that only the candidate classifies correctly.
        lost: Number of its images that only the current file classifies correctly.
        changed: Number of its images for which they choose different classes.
    """

    label: str
    images: Whole
    current_right: Whole
    candidate_right: Whole
    gained: Whole
    lost: Whole
    changed: Whole


@dataclass(frozen=True)
class Flip:
    """An image for which the two files choose different classes."""

    image: str
    label: str
    current: str
    candidate: str


@dataclass(frozen=True)
class FileComparison:
    """A candidate against the current file.

    Attributes:
        candidate: Metrics of the candidate.
        current: Metrics of the current file.
        agreement: Part of the images for which both choose the same class.
        gained: Number of images that only the candidate classifies correctly.
        lost: Number of images that only the current file classifies correctly.
        difference: Accuracy of the candidate minus that of the current file, from -1 to 1.
        interval: 95 % interval of the difference.
        p_value: Two-sided p-value of McNemar's exact test.
        classes: The classes that have images.
        flips: The images whose class changes; those that are lost first, then those that are gained.
        latency: Latencies; null if they were not measured.
        gate: The gate.
        reason: Why the candidate misses its gate; empty if it passes.
    """

    candidate: Evaluation
    current: Evaluation
    agreement: Finite
    gained: Whole
    lost: Whole
    difference: Finite
    interval: Interval
    p_value: Finite
    classes: list[ClassFlips]
    flips: list[Flip]
    latency: SideBySide | None
    gate: ReplacementGate
    reason: str


def compare_files(
    candidate: Classifier,
    current: Classifier,
    judged: Judged,
    gate: ReplacementGate | None = None,
    bench_seconds: float = 0.0,
) -> FileComparison:
    """Run two files on the same labelled images, and measure their latencies side by side.

    Each file prepares the images in its own way. Classes are compared by their names.

    Args:
        candidate: The new file.
        current: The file that it may replace.
        judged: The images.
        gate: What the candidate may lose against the current file.
        bench_seconds: Minimum time in seconds that each latency is measured for; 0 measures none.

    Raises:
        UsageError: a class of the images is not one of a file's, the gate names a metric that is not defined
            on the images, or limits a latency that is not measured.
        DeviceError: this machine lacks the device of a file.
        ImfDeployError: a file does not run.
    """
    gate = gate or ReplacementGate()
    if gate.max_slowdown is not None and not bench_seconds:
        raise UsageError("`max_slowdown` needs latencies", "Use `bench_seconds` 1 or more")
    pair = (candidate, current)
    labels = [judged.labels_for(each.preprocess, each.path) for each in pair]
    for each, own in zip(pair, labels, strict=True):
        check_defined(gate, each, own)
    metrics = [
        load_metrics(gate.metric, own, each.preprocess.num_classes)
        for each, own in zip(pair, labels, strict=True)
    ]
    logits = [judged.logits(each) for each in pair]
    named = [name for name, _ in gate.gate]
    first, second = (
        describe(pair[i], judged, logits[i], labels[i], metrics[i], named) for i in range(len(pair))
    )
    right = [values.argmax(1) == own for values, own in zip(logits, labels, strict=True)]
    names = [
        np.array(each.preprocess.labels, object)[values.argmax(1)]
        for each, values in zip(pair, logits, strict=True)
    ]
    changed = names[0] != names[1]
    paired = Paired(len(changed), int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()))
    agreement = float(1 - changed.mean())
    latency = side_by_side(candidate, current, bench_seconds) if bench_seconds else None
    accuracy, reference = (float(own.mean()) for own in right)
    reason = missed(gate, accuracy, reference, agreement, _against(first, second)) or _too_slow(gate, latency)
    return FileComparison(
        first,
        second,
        agreement,
        paired.gained,
        paired.lost,
        paired.difference,
        paired.interval,
        paired.p_value,
        _by_class(judged, right, changed),
        _flips(judged, right, changed, names),
        latency,
        gate,
        reason,
    )


def check_defined(gate: ReplacementGate, classifier: Classifier, labels: npt.NDArray[Any]) -> None:
    """Refuse a gate on a metric that is not defined for the labels, before anything runs.

    Raises:
        UsageError: it is not.
    """
    own = classifier.preprocess
    for name, _ in gate.gate:
        if known_metric(name) and (why := own.task.undefined(name, labels, own.labels)):
            raise UsageError(
                f"`gate` {name} is not defined on these images: {why}", "Use another metric, or add images"
            )


def _against(candidate: Evaluation, current: Evaluation) -> dict[str, MetricValue]:
    """Return the metrics that both files have, those of the current file as references."""
    return {
        name: replace(own, reference=other.value, reference_interval=other.interval)
        for name, own in candidate.metrics.items()
        if (other := current.metrics.get(name))
    }


def _too_slow(gate: ReplacementGate, latency: SideBySide | None) -> str:
    """Return why a candidate is too slow; empty if it is not, or if there is no limit."""
    if gate.max_slowdown is None or latency is None or latency.ratio <= gate.max_slowdown:
        return ""
    return (
        f"its latency is {latency.ratio:.2f} ({latency.low:.2f} to {latency.high:.2f}) times the current "
        f"file's, and {gate.max_slowdown:g} is allowed"
    )


def _by_class(judged: Judged, right: Sequence[Mask], changed: Mask) -> list[ClassFlips]:
    labels = judged.split.labels.numpy()
    rows = []
    for number in sorted(set(labels.tolist())):
        own = labels == number
        candidate, current = (each[own] for each in right)
        rows.append(
            ClassFlips(
                judged.preprocess.labels[number],
                int(own.sum()),
                int(current.sum()),
                int(candidate.sum()),
                int((candidate & ~current).sum()),
                int((current & ~candidate).sum()),
                int(changed[own].sum()),
            )
        )
    return rows


def _flips(judged: Judged, right: Sequence[Mask], changed: Mask, names: Sequence[Names]) -> list[Flip]:
    labels = judged.split.labels.numpy()
    rank = np.where(right[1] & ~right[0], 0, np.where(right[0] & ~right[1], 1, 2))
    order = [i for i in np.argsort(rank, kind="stable").tolist() if changed[i]]
    return [
        Flip(judged.image_name(i), judged.preprocess.labels[labels[i]], str(names[1][i]), str(names[0][i]))
        for i in order
    ]
