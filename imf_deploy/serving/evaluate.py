"""The metrics of a finished file on labelled images; the network that it was made from is not needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.forms import Number, Whole
from imf_deploy.records.metrics import MetricValue
from imf_deploy.runners.base import Logits
from imf_deploy.serving.classifier import Classifier
from imf_deploy.serving.labelled import Judged
from imf_deploy.tasks.answers import NO_ANSWER, Answers
from imf_deploy.tasks.metric import Metric, known_metric
from imf_deploy.tasks.own_metric import OwnMetric, load_metric

CONFUSED = 20
"""Maximum number of confused pairs of classes that are kept."""
TRIED = 1000
"""Maximum number of labels that a metric of the user's is tried on."""


@dataclass(frozen=True)
class ClassResult:
    """One class that has images.

    Attributes:
        label: Name of the class.
        images: Number of its images.
        right: Number of its images that get the class.
        chosen: Number of all images that get the class.
        recall: Part of its images that get the class.
        precision: Part of the images that get the class which are of it; null if none does.
        f1: Harmonic mean of both.
    """

    label: str
    images: Whole
    right: Whole
    chosen: Whole
    recall: Number
    precision: Number | None
    f1: Number


@dataclass(frozen=True)
class Confused:
    """A pair of classes that the file confuses: images of ``label`` that get ``chosen``."""

    label: str
    chosen: str
    images: Whole


@dataclass(frozen=True)
class Evaluation:
    """What a file answers on labelled images.

    Attributes:
        file: Path of the file.
        sha256: Hash of the file.
        data: Name of the data.
        images: Number of images.
        metrics: Metrics by name; there is no reference.
        classes: The classes that have images, in the order of the file's classes.
        without_images: Number of the file's classes that have none.
        confused: The most frequent confusions, the most frequent first.
    """

    file: str
    sha256: str
    data: str
    images: Whole
    metrics: dict[str, MetricValue]
    classes: list[ClassResult]
    without_images: Whole
    confused: list[Confused]


def load_metrics(paths: Sequence[str], labels: npt.NDArray[np.int64], classes: int) -> list[OwnMetric]:
    """Import the metrics of the user's, and try each on random logits before anything runs.

    Args:
        paths: ``package.module:function`` each.
        labels: Correct classes, ``int64 [N]``.
        classes: Number of classes.

    Raises:
        UsageError: a metric cannot be used.
        ImfDeployError: importing it fails.
    """
    metrics = [load_metric(path) for path in paths]
    for each in metrics:
        each.check(labels[:: max(len(labels) // TRIED, 1)][:TRIED], classes)
    return metrics


def evaluate(classifier: Classifier, judged: Judged, metric: Sequence[str] = ()) -> Evaluation:
    """Run a file on labelled images, and measure its answers.

    Args:
        classifier: The file.
        judged: The images.
        metric: Metrics of the user's, ``package.module:function`` each.

    Raises:
        UsageError: a class of the images is not one of the file's, or a metric cannot be used.
        DeviceError: this machine lacks the device of the file.
        ImfDeployError: the file does not run.
    """
    labels = judged.labels_for(classifier.preprocess, classifier.path)
    own = load_metrics(metric, labels, classifier.preprocess.num_classes)
    return describe(classifier, judged, judged.logits(classifier), labels, own)


def describe(
    classifier: Classifier,
    judged: Judged,
    logits: Logits,
    labels: npt.NDArray[np.int64],
    own: Sequence[OwnMetric] = (),
    named: Sequence[str] = (),
) -> Evaluation:
    """Measure the answers of a file; see :func:`evaluate`.

    Args:
        classifier: The file.
        judged: The images.
        logits: Its answers, ``float32 [N, classes]``.
        labels: Correct classes, ``int64 [N]``.
        own: Metrics of the user's.
        named: Names of further metrics.

    Raises:
        ImfDeployError: logits are not finite.
    """
    names, task = classifier.preprocess.labels, classifier.preprocess.task
    check_finite(classifier, logits)
    others = [metric for name in named if (metric := known_metric(name))]
    shown = list(dict.fromkeys([*task.shown(len(names)), *others]))
    scored = task.scores([metric.name for metric in shown], logits, labels, names)
    metrics = {metric.name: _measured(metric, *score) for metric, score in zip(shown, scored, strict=True)}
    metrics |= {each.metric.name: _measured(each.metric, each.value(logits, labels), None) for each in own}
    answers = Answers(logits, labels)
    recall, precision, f1 = answers.recall(), answers.precision(), answers.f1()
    present = answers.images.nonzero()[0].tolist()
    classes = [
        ClassResult(
            names[i],
            int(answers.images[i]),
            int(answers.right[i]),
            int(answers.predicted[i]),
            float(recall[i]),
            _finite(precision[i]),
            float(f1[i]),
        )
        for i in present
    ]
    confused = [
        Confused(names[label], names[chosen], images)
        for label, chosen, images in answers.confused(CONFUSED)
        if chosen != NO_ANSWER
    ]
    return Evaluation(
        str(classifier.path),
        classifier.record.sha256,
        judged.name,
        len(labels),
        metrics,
        classes,
        len(names) - len(present),
        confused,
    )


def check_finite(classifier: Classifier, logits: Logits) -> None:
    """Refuse logits that are not finite: no metric of them is true.

    Raises:
        ImfDeployError: there are some.
    """
    broken = int((~np.isfinite(logits).all(1)).sum())
    if broken:
        raise ImfDeployError(
            f"{classifier.path} answers with logits that are not finite for {broken} of {len(logits)} images",
            "Export it again, or in another precision",
        )


def _measured(metric: Metric, value: float, interval: tuple[float, float] | None) -> MetricValue:
    return MetricValue(
        title=metric.title,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        value=_finite(value),
        reference=None,
        interval=interval,
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
