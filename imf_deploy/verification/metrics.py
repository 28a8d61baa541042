"""The metrics of a file and of its network on the same images: which are measured, and their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from imf_deploy.data import DataSet, Split
from imf_deploy.data.choice import choose_images
from imf_deploy.errors import UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.metrics import MetricValue
from imf_deploy.settings import Gate
from imf_deploy.tasks.classification import CLASSIFICATION, are_probabilities, as_logits
from imf_deploy.tasks.metric import Metric, known_metric
from imf_deploy.tasks.own_metric import OwnMetric, load_metric
from imf_deploy.tasks.task import Outputs, Task
from imf_deploy.verification.ladder import Array

TRIED = 1000
"""Maximum number of labels that a metric of the user's is tried on."""


@dataclass(frozen=True)
class Metrics:
    """What files are measured by.

    Attributes:
        classes: Names of the classes.
        known: Metrics of the task: those that reports show, and those that a gate names.
        own: Metrics of the user's.
        task: Defines the metrics.
    """

    classes: Sequence[str]
    known: Sequence[Metric]
    own: Sequence[OwnMetric] = ()
    task: Task = CLASSIFICATION

    @classmethod
    def of(cls, gate: Gate, preprocess: Preprocess) -> Metrics:
        """Return the metrics that a gate needs and that reports show.

        Raises:
            UsageError: a metric of the user's cannot be used.
            ImfDeployError: importing it fails.
        """
        task = preprocess.task
        shown = {metric.name: metric for metric in task.shown(preprocess.num_classes)}
        named = {name: metric for name, _ in gate.gate if (metric := known_metric(name))}
        own = [load_metric(path) for path in gate.metric]
        return cls(preprocess.labels, list((shown | named).values()), own, task)

    def measure(
        self, outputs: Array, reference: Array, labels: npt.NDArray[np.int64]
    ) -> dict[str, MetricValue]:
        """Return the metrics of a file and of its network by name.

        Args:
            outputs: Logits of the file, ``[N, classes]``.
            reference: Logits of the network. If they are probabilities, the logarithms of both are measured.
            labels: Correct classes, ``[N]``.
        """
        if are_probabilities(reference):
            outputs, reference = as_logits(outputs), as_logits(reference)
        names = [metric.name for metric in self.known]
        pairs = [self.task.scores(names, logits, labels, self.classes) for logits in (outputs, reference)]
        values = {
            metric.name: _value(metric, *both) for metric, *both in zip(self.known, *pairs, strict=True)
        }
        return values | {
            each.metric.name: _value(
                each.metric, *((each.value(logits, labels), None) for logits in (outputs, reference))
            )
            for each in self.own
        }

    def of_network(self, outputs: Outputs, labels: npt.NDArray[np.int64]) -> dict[str, float | None]:
        """Return the task's metrics of one network by name; null for those that are not defined.

        Args:
            outputs: Logits, ``[N, classes]``.
            labels: Correct classes, ``[N]``.
        """
        names = [metric.name for metric in self.known]
        scores = self.task.scores(names, outputs, labels, self.classes)
        return {
            name: value if math.isfinite(value) else None
            for name, (value, _) in zip(names, scores, strict=True)
        }


def _value(metric: Metric, own: Any, reference: Any) -> MetricValue:
    (value, interval), (other, other_interval) = own, reference
    return MetricValue(
        title=metric.title,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        value=value if math.isfinite(value) else None,
        reference=other if math.isfinite(other) else None,
        interval=interval,
        reference_interval=other_interval,
    )


def check_gate(gate: Gate, data: DataSet, splits: Sequence[Literal["test", "validation"]]) -> None:
    """Check, before anything is trained or run, that a gate can be judged on a data set.

    Args:
        gate: The gate.
        data: The data.
        splits: Splits that files are judged on; empty ones are skipped.

    Raises:
        UsageError: a metric is not defined for the labels of a split, or a metric of the user's fails.
        ImfDeployError: importing a metric of the user's fails.
    """
    metrics = Metrics.of(gate, data.preprocess)
    classes = data.preprocess.labels
    for split_name in splits:
        split: Split = getattr(data, split_name)
        if not len(split):
            continue
        labels = split.labels.numpy()
        for name, _ in gate.gate:
            if known_metric(name) and (why := metrics.task.undefined(name, labels, classes)):
                raise UsageError(
                    f"`gate` {name} is not defined on the {split_name} images of {data.name}: {why}",
                    "Use another metric, or add images",
                )
        if metrics.own:
            few = choose_images(split, min(TRIED, len(split)), 0).labels.numpy()
            for each in metrics.own:
                each.check(few, len(classes))
