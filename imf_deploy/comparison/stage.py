"""Stage: compare runs side by side, mark the Pareto fronts, and choose within a budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.comparison.choose import Choice, choose
from imf_deploy.comparison.runs import LATENCY, SIZE, Entry, Run, open_runs, timed_alike, warnings
from imf_deploy.forms import to_json
from imf_deploy.report.verdict import common_start
from imf_deploy.settings.compare import Budget

SCHEMA = 1


@dataclass(frozen=True)
class Comparison:
    """All files of some runs.

    Attributes:
        runs: The runs, as they were given.
        entries: Their files, in the order of the reports.
        budget: Limits for the choice.
        choice: What to deploy.
        warnings: Reasons why the numbers are hard to compare.
    """

    runs: list[Run]
    entries: list[Entry]
    budget: Budget
    choice: Choice
    warnings: list[str]

    @property
    def missed(self) -> bool:
        """Whether there is a budget and no file fits it."""
        return bool(self.budget) and self.choice.entry is None

    def by_run(self) -> list[tuple[Run, str, list[Entry]]]:
        """Return each run, the common prefix of its files' paths, and its files."""
        groups = []
        for run in self.runs:
            own = [entry for entry in self.entries if entry.run is run]
            groups.append((run, common_start([entry.row.path for entry in own]), own))
        return groups

    def to_dict(self) -> dict[str, Any]:
        """Return the form for JSON."""
        chosen, nearest = self.choice.entry, self.choice.nearest
        return {
            "schema": SCHEMA,
            "dataset": self.runs[0].report.dataset,
            "runs": [
                {
                    "name": run.name,
                    "report": str(run.path),
                    **{
                        key: getattr(run.report, key)
                        for key in ("student", "teacher", "teacher_accuracy", "seed", "created", "command")
                    },
                    "environment": run.report.environment,
                }
                for run in self.runs
            ],
            "files": [
                {"run": entry.run.name, **to_json(entry.row), "pareto_front": sorted(entry.fronts)}
                for entry in self.entries
            ],
            "budget": {
                "latency_ms": self.budget.latency_budget_ms,
                "size_mb": self.budget.size_budget_mb,
                "min_accuracy": self.budget.min_accuracy,
            },
            "recommendation": _named(chosen),
            "nearest": _named(nearest),
            "reason": self.choice.sentence,
            "warnings": self.warnings,
        }


def _named(entry: Entry | None) -> dict[str, str] | None:
    return {"run": entry.run.name, "path": entry.row.path} if entry else None


def compare(paths: Sequence[Path], budget: Budget | None = None) -> Comparison:
    """Compare runs.

    Args:
        paths: Folders of runs, or their ``report.json`` files; one is enough.
        budget: Limits for the recommended file.

    Raises:
        UsageError: a run is missing or listed twice, runs had different data sets, or the budget is invalid.
        ImfDeployError: a report is damaged, is not a report, or was written by a newer version.
    """
    budget = budget or Budget()
    runs = open_runs(paths)
    groups = timed_alike(runs)
    entries = _mark([Entry(run, row) for run in runs for row in run.report.artifacts], groups)
    return Comparison(runs, entries, budget, choose(entries, groups, budget), warnings(runs))


def _mark(entries: list[Entry], groups: Sequence[Sequence[Run]]) -> list[Entry]:
    """Return the entries with their fronts; latencies of different machines share none."""
    fronts: list[set[str]] = [set() for _ in entries]
    latency = [entry.row.p50 or math.inf for entry in entries]
    # Validation accuracies are used, because a choice from the front must not depend on the test images.
    accuracy = [entry.row.validation_accuracy or 0.0 for entry in entries]
    passed = [place for place, entry in enumerate(entries) if entry.judged]
    for group in groups:
        timed = [p for p in passed if entries[p].candidate and entries[p].run in group]
        for place in pareto_front([(latency[p], accuracy[p]) for p in timed]):
            fronts[timed[place]].add(LATENCY)
    for place in pareto_front([(entries[p].row.size_bytes, accuracy[p]) for p in passed]):
        fronts[passed[place]].add(SIZE)
    return [
        Entry(entry.run, entry.row, frozenset(marks)) for entry, marks in zip(entries, fronts, strict=True)
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other point dominates, cheapest first.

    A point dominates another if it costs no more and earns no less, and is better in one of both. Points that
    are equal in both are either all on the front, or none is.

    Args:
        points: Cost (latency, size) and earnings (accuracy) of each; all finite.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        cost, earned = points[place]
        # All preceding points cost no more, so a point is only new if it earns more than all of them.
        if not front or earned > points[front[-1]][1] or (cost, earned) == points[front[-1]]:
            front.append(place)
    return front
