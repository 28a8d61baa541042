"""Gain in throughput when several trainings share a GPU."""

from collections import defaultdict
from statistics import mean, median

from imf_deploy.study.run import Run

Kind = tuple[str, str, int]
"""Kinds of trainings that take the same time: student, method and epochs."""


class Sharing:
    """Compares trainings that ran alone on the GPU with those that shared it.

    Args:
        jobs: Number of trainings at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._alone: dict[Kind, list[float]] = defaultdict(list)
        self._shared: dict[Kind, list[float]] = defaultdict(list)

    @property
    def unmeasured(self) -> bool:
        """Whether no training has run alone so far."""
        return not self._alone

    def add(self, run: Run, seconds: float, alone: bool) -> None:
        """Add the time of a training.

        Args:
            run: The training.
            seconds: Duration.
            alone: Whether no other training was running.
        """
        kind = run.student, run.method, run.train.epochs
        (self._alone if alone else self._shared)[kind].append(seconds)

    def gain(self) -> float | None:
        """Return the speed-up over sequential trainings; ``None`` if no kind was run both ways."""
        both = self._alone.keys() & self._shared.keys()
        ratios = [mean(self._alone[kind]) / mean(self._shared[kind]) for kind in both]
        return self.jobs * median(ratios) if ratios else None

    def describe(self) -> str:
        """Return the gain as a sentence without a full stop; empty if it is not known."""
        gain = self.gain()
        if gain is None:
            return ""
        sentence = (
            f"{self.jobs} trainings share the GPU: they are {gain:.2f} times as fast as one after the other"
        )
        return sentence if gain >= 1.05 else f"{sentence}; fewer `jobs` would be as fast"
