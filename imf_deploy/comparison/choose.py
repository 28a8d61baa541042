"""Choose one file of several runs within a budget, by validation accuracy, and explain the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from imf_deploy.comparison.runs import Entry, Run
from imf_deploy.records.report import ArtifactRow
from imf_deploy.report.recommend import recommend
from imf_deploy.settings.compare import Budget
from imf_deploy.show.format import percent, scaled, significant


def misses(budget: Budget, row: ArtifactRow) -> dict[str, float]:
    """Return by how much a candidate misses each limit, in words and as a fraction of the limit."""
    latency, accuracy, missed = row.latency_ms, row.validation_accuracy, {}
    if latency is None or accuracy is None:
        raise ValueError(f"{row.path} is not a candidate")
    if budget.latency_budget_ms is not None and latency.p50 > budget.latency_budget_ms:
        over = latency.p50 - budget.latency_budget_ms
        missed[f"{significant(latency.p50)} ms, {significant(over)} ms too slow"] = (
            over / budget.latency_budget_ms
        )
    if budget.size_budget_mb is not None and row.size_bytes > budget.size_budget_mb * 1e6:
        extra = row.size_bytes - budget.size_budget_mb * 1e6
        size = f"{scaled(row.size_bytes, 'B')}, {scaled(extra, 'B')} too large"
        missed[size] = extra / (budget.size_budget_mb * 1e6)
    if budget.min_accuracy is not None and accuracy < budget.min_accuracy:
        under = budget.min_accuracy - accuracy
        missed[f"{percent(accuracy)}, {significant(100 * under)} points too few"] = (
            under / budget.min_accuracy
        )
    return missed


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
    fit = [entry for entry in candidates if not misses(budget, entry.row)]
    # The name distinguishes the runs, because the choice is returned as a path.
    chosen = recommend([replace(entry.row, path=entry.name) for entry in fit], budget.latency_budget_ms)
    others = _left_out(candidates, len(everywhere) - len(candidates))
    if chosen is None:
        return _none_fits(candidates, budget, others)
    entry = next(entry for entry in fit if entry.name == chosen.path)
    among = f", among the {len(fit)} of {len(candidates)} files with {budget}" if budget else ""
    gate = f" Its gate: {chosen.gate}." if chosen.gate else ""
    return Choice(entry, f"Deploy {entry.name}: {chosen.reason.rstrip('. ')}{among}.{gate}{others}")


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
    nearest = min(candidates, key=lambda entry: max(misses(budget, entry.row).values()))
    nearest_misses = "; ".join(misses(budget, nearest.row))
    return Choice(
        None, f"No file fits {budget}. {nearest.name} comes nearest: {nearest_misses}.{others}", nearest
    )
