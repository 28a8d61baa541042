"""The gate that every deployable file has to pass: how much a metric may lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER, LONGEST
from imf_deploy.settings.base import Text, Words, settings
from imf_deploy.tasks.metric import NAMES, TOP1, known_metric
from imf_deploy.untrusted import shorten

# Rounding of fractions such as 0.97 must not decide the result.
EPSILON = 1e-9
_MOST = 20


def _read_limits(text: str) -> tuple[tuple[str, float], ...]:
    limits: list[tuple[str, float]] = []
    pending: list[str] = []  # the name of a class may have commas
    for part in text.split(","):
        name, _, amount = ",".join([*pending, part]).rpartition("=")
        try:
            limits.append((name.strip(), float(amount)))
        except ValueError:
            pending.append(part)
        else:
            pending = []
    if rest := ",".join(pending).strip(" ,"):
        raise UsageError(
            f"`gate` '{shorten(rest, 60)}' is not a metric and an amount",
            "Give NAME=AMOUNT, such as balanced_accuracy=1.0",
        )
    return tuple(limits)


def _pairs(value: Any) -> Any:
    """Return limits given as text, as a mapping, or as in a record, as pairs; others unchanged."""
    if isinstance(value, str):
        return _read_limits(value)
    if isinstance(value, Mapping):
        return tuple(value.items())
    if isinstance(value, list | tuple):
        if value and all(isinstance(each, str) for each in value):  # words of a command line
            return _read_limits(",".join(value))
        return tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return value


Limits = Annotated[
    tuple[tuple[str, Annotated[float, Field(ge=0, le=LARGEST_NUMBER)]], ...],
    Field(max_length=_MOST),
    Text(_read_limits, lambda limits: ",".join(f"{name}={amount}" for name, amount in limits), repeats=True),
]
"""Names of metrics and amounts, sorted by name; Python code may also give a mapping."""


@settings("Export")
class Gate:
    """How much a file may lose against its float model on the same images.

    A limit of ``top1`` in ``gate`` is the same as ``max_accuracy_drop``, and is stored there.
    """

    max_accuracy_drop: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="Gate: largest loss of accuracy against PyTorch, in points.",
        ),
    ] = 1.0
    min_agreement: Annotated[
        float,
        Field(
            ge=0, le=1, description="Gate: smallest part of the images that keep their class, from 0 to 1."
        ),
    ] = 0.97
    gate: Annotated[
        Limits,
        Field(
            description="Gate on other metrics, such as balanced_accuracy=1.0,ece=2: how much worse than "
            f"PyTorch's each may be, in points, or in nats for nll. Names: {NAMES}, and functions of metric."
        ),
    ] = ()
    metric: Annotated[
        Words,
        Field(
            description="Metrics of your own: package.module:function of logits [N, classes] and labels [N]."
        ),
    ] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_limit_of_accuracy(cls, values: Any) -> Any:
        given = values.kwargs if isinstance(values, ArgsKwargs) else values
        if not isinstance(given, dict) or "gate" not in given:
            return values
        given = dict(given)
        limits = _pairs(given["gate"])
        if isinstance(limits, tuple) and all(isinstance(each, tuple) and len(each) == 2 for each in limits):
            accuracy = [amount for name, amount in limits if name == TOP1.name]
            if accuracy and "max_accuracy_drop" in given:
                raise UsageError("`gate` limits top1, and `max_accuracy_drop` does too", "Give one of them")
            if accuracy:
                given["max_accuracy_drop"] = accuracy[0]
            limits = tuple(each for each in limits if each[0] != TOP1.name)
        return given | {"gate": limits}

    @model_validator(mode="after")
    def _check_names(self) -> Gate:
        for path in self.metric:
            module, _, function = path.partition(":")
            if not all(part.isidentifier() for part in [*module.split("."), function]) or len(path) > LONGEST:
                raise UsageError(
                    f"`metric` '{shorten(path, 60)}' is not a function", "Give package.module:function"
                )
            if known_metric(function) or self.own_names.count(function) > 1:
                raise UsageError(
                    f"`metric` {path}: there is another metric of the name {function}",
                    "Give the function another name",
                )
        object.__setattr__(self, "gate", tuple(sorted(self.gate)))
        names = [name for name, _ in self.gate]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"`gate` limits {shorten(twice, 60)} twice", "Give one amount")
        for name in names:
            if known_metric(name) is None and name not in self.own_names:
                raise UsageError(
                    f"`gate` '{shorten(name, 60)}' is not a metric",
                    f"Use {NAMES}, or the function of a `metric` of your own",
                )
        return self

    @property
    def own_names(self) -> list[str]:
        """Names of the user's metrics: of their functions."""
        return [path.rpartition(":")[2] for path in self.metric]

    def reason(self, accuracy: float, reference: float, agreement: float) -> str:
        """Return why a file does not pass by its accuracy or agreement, and by how much; empty if it passes.

        :func:`imf_deploy.records.metrics.missed` also judges the metrics that ``gate`` names.

        Args:
            accuracy: Accuracy of the file, from 0 to 1.
            reference: Accuracy of the float model.
            agreement: Part of the images on which both choose the same class.
        """
        drop = (reference - accuracy) * 100
        if drop > self.max_accuracy_drop + EPSILON:
            return (
                f"accuracy falls by {drop:.2f} points from {reference:.2%}, "
                f"and {self.max_accuracy_drop:g} are allowed"
            )
        if agreement < self.min_agreement - EPSILON:
            return f"top-1 agreement {agreement:.2%} is below {self.min_agreement:.2%}"
        return ""


@settings("Gate")
class GivenGate:
    """What a command gives of a gate; what it does not give is that of a file's record."""

    max_accuracy_drop: Annotated[
        float | None,
        Field(ge=0, le=100, description="Gate in points; by default the one in the file's record."),
    ] = None
    min_agreement: Annotated[
        float | None,
        Field(ge=0, le=1, description="Gate from 0 to 1; by default the one in the file's record."),
    ] = None
    gate: Annotated[
        Limits,
        Field(description="Gate on other metrics, such as ece=2; by default the one in the file's record."),
    ] = ()
    metric: Annotated[
        Words,
        Field(description="Metrics of your own: package.module:function of logits and labels."),
    ] = ()

    def over(self, recorded: Gate, name: str) -> Gate:
        """Return the gate of a record with what is given.

        Args:
            recorded: The gate of the record.
            name: Name of the file, for messages.

        Raises:
            UsageError: accuracy is limited twice, or only the record names the code of a metric.
        """
        limits = self.gate or recorded.gate
        limited = [limit for limit, _ in limits]
        accuracy = {"max_accuracy_drop": self.max_accuracy_drop}
        if self.max_accuracy_drop is None and TOP1.name not in limited:
            accuracy = {"max_accuracy_drop": recorded.max_accuracy_drop}
        given = {key: value for key, value in accuracy.items() if value is not None}
        agreement = recorded.min_agreement if self.min_agreement is None else self.min_agreement
        if not self.gate:
            for path in recorded.metric:
                if path not in self.metric and path.rpartition(":")[2] in limited:
                    raise UsageError(
                        f"the record of {name} names '{path}' as the code of a metric, which was not run",
                        f"If you trust that code, add `metric` {path}",
                    )
        return Gate(min_agreement=agreement, gate=limits, metric=self.metric, **given)
