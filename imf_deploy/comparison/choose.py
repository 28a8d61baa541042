"""Choose one file of several runs within a budget, by validation accuracy, and explain the choice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imf_deploy.comparison.runs import Entry, Run
from imf_deploy.errors import UsageError
from imf_deploy.records.report import ArtifactRow
from imf_deploy.report.recommend import recommend
from imf_deploy.show.format import percent, scaled, significant


@dataclass(frozen=True)
class Budget:
    """Limits on the cost and the accuracy of a file; ``None`` is no limit.

    Attributes:
        latency_ms: Maximum median latency (p50) of one inference in milliseconds.
        size_mb: Maximum size of the file in megabytes (a million bytes).
        min_accuracy: Minimum accuracy on validation images, 0 to 1.
    """

    latency_ms: float | None = None
    size_mb: float | None = None
    min_accuracy: float | None = None

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: no file can be within the budget, or an accuracy is not a fraction.
        """
        for option, value in (("`latency_budget_ms`", self.latency_ms), ("`size_budget_mb`", self.size_mb)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{option} must be above 0")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise UsageError("`min_accuracy` must be from 0 to 1", "For example: 0.9")

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return any(limit is not None for limit in (self.latency_ms, self.size_mb, self.min_accuracy))

    def __str__(self) -> str:
        """Return the limits in words."""
        told = []
        if self.latency_ms is not None:
            told.append(f"at most {self.latency_ms:g} ms")
        if self.size_mb is not None:
            told.append(f"at most {self.size_mb:g} MB")
        if self.min_accuracy is not None:
            told.append(f"at least {100 * self.min_accuracy:g} % of the validation images")
        return ", ".join(told)

    def misses(self, row: ArtifactRow) -> dict[str, float]:
        """Return by how much a candidate misses each limit, in words and as a fraction of the limit."""
        latency, accuracy, found = row.latency_ms, row.validation_accuracy, {}
        if latency is None or accuracy is None:
            raise ValueError(f"{row.path} is not a candidate")
        if self.latency_ms is not None and latency.p50 > self.latency_ms:
            over = latency.p50 - self.latency_ms
            found[f"{significant(latency.p50)} ms, {significant(over)} ms too slow"] = over / self.latency_ms
        if self.size_mb is not None and row.size_bytes > self.size_mb * 1e6:
            extra = row.size_bytes - self.size_mb * 1e6
            told = f"{scaled(row.size_bytes, 'B')}, {scaled(extra, 'B')} too large"
            found[told] = extra / (self.size_mb * 1e6)
        if self.min_accuracy is not None and accuracy < self.min_accuracy:
            under = self.min_accuracy - accuracy
            found[f"{percent(accuracy)}, {significant(100 * under)} points too few"] = (
                under / self.min_accuracy
            )
        return found


@dataclass(frozen=True)
class Choice:
    """The file to deploy, or why there is none.

    Attributes:
        entry: The file, if there is one.
        sentence: Recommendation with its reason.
        nearest: Of the files that miss the budget, the one with the smallest relative miss.
    """

    entry: Entry | None
    sentence: str
    nearest: Entry | None = None


def choose(entries: Sequence[Entry], groups: Sequence[Sequence[Run]], budget: Budget) -> Choice:
    """Choose as :func:`imf_deploy.report.recommend.recommend` does, among the files within the budget.

    Test accuracies are not used. A candidate passed its checks, was timed, and has an accuracy on validation
    images. Latencies of different machines cannot be compared with each other or with one budget, so only the
    first group with a candidate is considered.

    Args:
        entries: All files.
        groups: Runs that were timed under the same conditions, the first run's first.
        budget: Limits for the file.
    """
    everywhere = [entry for entry in entries if entry.candidate]
    candidates = next(
        (own for group in groups if (own := [entry for entry in everywhere if entry.run in group])), []
    )
    if not candidates:
        return Choice(
            None,
            "No file is recommended: none passed its checks, was timed, and has an accuracy on validation "
            "images.",
        )
    fit = [entry for entry in candidates if not budget.misses(entry.row)]
    # The name distinguishes the runs, because the choice is returned as a path.
    chosen = recommend([replace(entry.row, path=entry.name) for entry in fit])
    others = _left_out(candidates, len(everywhere) - len(candidates))
    if chosen is None:
        return _none_fits(candidates, budget, others)
    entry = next(entry for entry in fit if entry.name == chosen.path)
    among = f", among the {len(fit)} of {len(candidates)} files with {budget}" if budget else ""
    return Choice(entry, f"Deploy {entry.name}: {chosen.reason.rstrip('. ')}{among}.{others}")


def _left_out(candidates: Sequence[Entry], others: int) -> str:
    """Return a sentence on candidates that were timed elsewhere; empty if there are none."""
    if not others:
        return ""
    runs = ", ".join(dict.fromkeys(entry.run.name for entry in candidates))
    return (
        f" Only files of {runs} were considered: {others} others were timed under other conditions; "
        "name their run first to choose among those."
    )


def _none_fits(candidates: Sequence[Entry], budget: Budget, others: str) -> Choice:
    nearest = min(candidates, key=lambda entry: max(budget.misses(entry.row).values()))
    told = "; ".join(budget.misses(nearest.row))
    return Choice(None, f"No file fits {budget}. {nearest.name} comes nearest: {told}.{others}", nearest)
