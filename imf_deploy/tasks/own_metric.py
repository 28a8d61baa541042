"""A metric of the user's: a Python function of logits and labels that states its direction."""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError, UsageError, first_line
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.own_code import load_function, working_folder_last
from imf_deploy.progress import say
from imf_deploy.tasks.metric import LONGEST_UNIT, POINTS, Metric
from imf_deploy.tasks.task import Outputs
from imf_deploy.untrusted import shorten


@dataclass(frozen=True)
class OwnMetric:
    """A metric and its function.

    Attributes:
        path: ``package.module:function``.
        metric: Its name, which is that of the function, its unit and its direction.
        function: Called with logits, ``float32 [N, classes]``, and labels, ``int64 [N]``.
    """

    path: str
    metric: Metric
    function: Callable[..., Any]

    @property
    def identity(self) -> str:
        """Name, and hash of the source of its module: results of other code are not reused.

        What the module imports is not part of it.
        """
        try:
            source = inspect.getsource(inspect.getmodule(self.function) or self.function)
        except (OSError, TypeError):  # built-in, or typed into an interpreter
            source = ""
        return f"{self.path} {hashlib.sha256(source.encode()).hexdigest()}"

    def value(self, outputs: Outputs, labels: npt.NDArray[Any]) -> float:
        """Return the metric of answers; NaN, after a warning, if the function fails or returns no number."""
        try:
            return self._value(outputs, labels)
        except ImfDeployError as error:
            say(f"Warning: {error.what}", logging.WARNING)
            return math.nan

    def check(self, labels: npt.NDArray[Any], classes: int) -> None:
        """Try the metric on random logits for some labels.

        Raises:
            UsageError: the function fails, or returns anything but a finite number.
        """
        logits = np.random.default_rng(0).standard_normal((len(labels), classes), np.float32)
        try:
            value = self._value(logits, labels)
        except ImfDeployError as error:
            raise UsageError(error.what, error.hint) from error
        if not math.isfinite(value):
            raise UsageError(
                f"`metric` {self.path} is {value} for random logits of {len(labels)} images",
                "Return a finite number for any logits",
            )

    def _value(self, outputs: Outputs, labels: npt.NDArray[Any]) -> float:
        try:
            with working_folder_last():  # for imports inside the function
                # Copies, because the function may change what it is given.
                returned = self.function(np.array(outputs, np.float32), np.array(labels, np.int64))
        except Exception as error:  # the user's code may raise anything
            raise ImfDeployError(
                f"`metric` {self.path} failed on {len(labels)} images "
                f"({type(error).__name__}: {shorten(first_line(error), 200)})",
                "It is called with logits, float32 [N, classes], and labels, int64 [N]",
            ) from error
        try:
            if isinstance(returned, str):
                raise TypeError
            value = float(returned)
        except Exception as error:  # objects may convert themselves
            raise ImfDeployError(
                f"`metric` {self.path} returned {shorten(repr(returned), 60)}, not a number", "Return a float"
            ) from error
        if self.metric.unit == POINTS and math.isfinite(value) and not -1e-6 <= value <= 1 + 1e-6:
            raise ImfDeployError(
                f"`metric` {self.path} returned {value:g}, but a metric in {POINTS} is from 0 to 1",
                f'Return a fraction, or set {self.metric.name}.unit = "%"',
            )
        if math.isfinite(value) and abs(value) > LARGEST_NUMBER:
            raise ImfDeployError(f"`metric` {self.path} returned {value:g}", "Return a smaller number")
        return value


def load_metric(path: str) -> OwnMetric:
    """Import a metric by the name ``package.module:function``.

    The function states whether more is better, as ``function.higher_is_better``, and may state a unit as
    ``function.unit``: ``points`` for a fraction from 0 to 1, or any short text.

    Raises:
        UsageError: there is no such function, or it does not state its direction.
        ImfDeployError: importing it fails.
    """
    function = load_function(path, "metric")
    name = path.rpartition(":")[2]
    better, unit = getattr(function, "higher_is_better", None), getattr(function, "unit", "")
    if not isinstance(better, bool):
        raise UsageError(
            f"`metric` {path} does not state whether more of it is better",
            f"Set {name}.higher_is_better = True, or False, below the function",
        )
    if not isinstance(unit, str) or len(unit) > LONGEST_UNIT or not (unit.isprintable()):
        raise UsageError(
            f"`metric` {path} has the unit {shorten(repr(unit), 60)}",
            f"Set {name}.unit to at most {LONGEST_UNIT} characters",
        )
    return OwnMetric(path, Metric(name, name.replace("_", " "), unit, better), function)
