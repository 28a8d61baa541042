"""Settings of a comparison: the budget of the chosen file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imf_deploy.settings.base import settings


@settings()
class LatencyBudget:
    """A limit on the latency of a file; ``None`` means no limit."""

    latency_budget_ms: Annotated[
        float | None,
        Field(gt=0, description="Largest median latency at batch 1, in milliseconds."),
    ] = None


@settings()
class CostBudget(LatencyBudget):
    """Limits on the cost of a file."""

    size_budget_mb: Annotated[
        float | None, Field(gt=0, description="Largest file size in megabytes (a million bytes).")
    ] = None


@settings()
class Budget(CostBudget):
    """Limits on the cost and the accuracy of a file."""

    min_accuracy: Annotated[
        float | None, Field(ge=0, le=1, description="Smallest accuracy on validation images, 0 to 1.")
    ] = None

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return any(
            limit is not None for limit in (self.latency_budget_ms, self.size_budget_mb, self.min_accuracy)
        )

    def __str__(self) -> str:
        """Return the limits in words."""
        limits = []
        if self.latency_budget_ms is not None:
            limits.append(f"at most {self.latency_budget_ms:g} ms")
        if self.size_budget_mb is not None:
            limits.append(f"at most {self.size_budget_mb:g} MB")
        if self.min_accuracy is not None:
            limits.append(f"at least {100 * self.min_accuracy:g} % of the validation images")
        return ", ".join(limits)
