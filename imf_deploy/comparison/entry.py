"""One file of one of the runs that are compared."""

from dataclasses import dataclass

from imf_deploy.comparison.runs import Run
from imf_deploy.records.report import ArtifactRow

LATENCY, SIZE = "latency", "size"


@dataclass(frozen=True)
class Entry:
    """One file of one run.

    Attributes:
        run: Its run.
        row: Its measurements.
        fronts: ``latency`` and ``size``, if no other file is as accurate on validation images at a lower
            cost, or more accurate at the same cost.
    """

    run: Run
    row: ArtifactRow
    fronts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Run and path, which are unique."""
        return f"{self.run.name}/{self.row.path}"

    @property
    def judged(self) -> bool:
        """Whether it passed and has a validation accuracy."""
        return self.row.status == "pass" and self.row.validation_accuracy is not None

    @property
    def candidate(self) -> bool:
        """Whether it can be recommended: it passed, was timed, and has a validation accuracy."""
        return self.judged and bool(self.row.latency_ms)
