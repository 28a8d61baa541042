"""What is gained where several trainings share a GPU."""

from collections import defaultdict
from statistics import mean, median

from imf_deploy.study.run import Run

Kind = tuple[str, str, int]
"""Trainings that take the same time: by student, method and epochs."""


class Sharing:
    """Compares trainings that had the GPU to themselves with those that shared it.

    Args:
        jobs: Trainings at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._alone: dict[Kind, list[float]] = defaultdict(list)
        self._shared: dict[Kind, list[float]] = defaultdict(list)

    @property
    def unmeasured(self) -> bool:
        """Whether no training has had the GPU to itself so far."""
        return not self._alone

    def add(self, run: Run, seconds: float, alone: bool) -> None:
        """Add the time of a training.

        Args:
            run: What was trained.
            seconds: From its begin to its end.
            alone: Whether no other training was running.
        """
        kind = run.student, run.method, run.train.epochs
        (self._alone if alone else self._shared)[kind].append(seconds)

    def gain(self) -> float | None:
        """Return how many times as fast they end as one after the other; nothing where none compare."""
        both = self._alone.keys() & self._shared.keys()
        ratios = [mean(self._alone[kind]) / mean(self._shared[kind]) for kind in both]
        return self.jobs * median(ratios) if ratios else None

    def describe(self) -> str:
        """Return the gain as a sentence without a full stop; empty where it is not known."""
        gain = self.gain()
        if gain is None:
            return ""
        told = (
            f"{self.jobs} trainings share the GPU: they end {gain:.2f} times as fast as one after the other"
        )
        return told if gain >= 1.05 else f"{told}; fewer `jobs` would be as fast"
