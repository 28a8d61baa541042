"""The result of a plan: the price of every product, and which products fit the budget."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imf_deploy.benchmark.latency import Latency
from imf_deploy.image_size import ImageSize, shape_of, short_size, size_text
from imf_deploy.models import ModelSpec
from imf_deploy.settings.compare import CostBudget
from imf_deploy.show.format import scaled, significant

SCHEMA = 1


@dataclass(frozen=True)
class PricedFile:
    """The price of one file.

    Attributes:
        precision: ``fp32`` or ``int8``.
        size_bytes: Size of the file.
        latency: Latency of one image on this machine's CPU.
    """

    precision: str
    size_bytes: int
    latency: Latency

    def within(self, budget: CostBudget) -> bool:
        """Return whether the file is within a budget."""
        slow = budget.latency_budget_ms is not None and self.latency.p50 > budget.latency_budget_ms
        large = budget.size_budget_mb is not None and self.size_bytes > budget.size_budget_mb * 1e6
        return not slow and not large


@dataclass(frozen=True)
class PricedProduct:
    """The price of one product of a candidate.

    Attributes:
        spec: The student.
        teacher: Name of the teacher's architecture, whose features decide how branches are built.
        product: ``plain`` or ``imf@k``.
        parameters: Number of trainable values.
        macs: Multiply-accumulates for one image.
        files: Its files, ``fp32`` first.
    """

    spec: ModelSpec
    teacher: str
    product: str
    parameters: int
    macs: int
    files: tuple[PricedFile, ...]

    def file(self, precision: str) -> PricedFile | None:
        """Return the file of a precision; ``None`` if there is none."""
        return next((file for file in self.files if file.precision == precision), None)


@dataclass(frozen=True)
class PlanResult:
    """The prices of all candidates.

    Attributes:
        products: All products, candidate by candidate.
        budget: Limits on latency and size.
        notes: Remarks for the reader.
        threads: Threads of each session.
        seconds: Minimum measuring time of each file in seconds.
        conditions: Machine and versions.
    """

    products: tuple[PricedProduct, ...]
    budget: CostBudget
    notes: tuple[str, ...]
    threads: int
    seconds: float
    conditions: dict[str, Any]

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return any(limit is not None for limit in vars(self.budget).values())

    def fitting(self) -> Iterator[tuple[PricedProduct, PricedFile]]:
        """Yield the files within the budget."""
        for product in self.products:
            for file in product.files:
                if file.within(self.budget):
                    yield product, file

    @property
    def missed(self) -> bool:
        """Whether there is a budget and no file fits it."""
        return self.limited and not any(self.fitting())

    @property
    def largest(self) -> tuple[PricedProduct, PricedFile] | None:
        """The file within the budget that computes most, of equal ones the fastest; ``None`` without one."""
        if not self.limited:
            return None
        return max(self.fitting(), key=lambda each: (each[0].macs, -each[1].latency.p50), default=None)

    def by_candidate(self) -> list[tuple[str, list[PricedProduct]]]:
        """Return the name of each candidate and its products."""
        groups: dict[str, list[PricedProduct]] = {}
        for product in self.products:
            groups.setdefault(candidate_name(product), []).append(product)
        return list(groups.items())

    def sentence(self) -> str:
        """Return which files fit the budget, and which one computes most."""
        files = sum(len(product.files) for product in self.products)
        if not self.limited:
            return f"The plan has {files} files of {len(self.by_candidate())} candidates; none is trained."
        words = budget_words(self.budget)
        if self.largest is None:
            product, file = min(
                ((product, file) for product in self.products for file in product.files),
                key=lambda each: _excess(each[1], self.budget),
            )
            return (
                f"None of the {files} files fits {words}. {file_name(product, file)} comes nearest: "
                f"{significant(file.latency.p50)} ms, {scaled(file.size_bytes, 'B')}."
            )
        product, file = self.largest
        return (
            f"{len(list(self.fitting()))} of {files} files fit {words}. The one that computes most is "
            f"{file_name(product, file)}: {scaled(product.macs)} MACs, {significant(file.latency.p50)} ms, "
            f"{scaled(file.size_bytes, 'B')}."
        )

    def command(self) -> str:
        """Return the command that trains the candidate of :attr:`largest`; empty without one."""
        if self.largest is None:
            return ""
        product, _ = self.largest
        words = ["imf-deploy", "distill-and-export", "--student", product.spec.name]
        words += ["--image-size", plain_size(product.spec.image_size)]
        if self.budget.latency_budget_ms is not None:
            words += ["--latency-budget-ms", f"{self.budget.latency_budget_ms:g}"]
        return shlex.join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return the form for JSON."""
        largest = self.largest
        return {
            "schema": SCHEMA,
            "products": [
                {
                    "student": product.spec.name,
                    "image_shape": list(product.spec.shape),
                    "classes": product.spec.num_classes,
                    "stem_strides": list(product.spec.stem_strides),
                    "teacher": product.teacher,
                    "product": product.product,
                    "parameters": product.parameters,
                    "macs": product.macs,
                    "files": [
                        {
                            "precision": file.precision,
                            "size_bytes": file.size_bytes,
                            "latency_ms": {key: getattr(file.latency, key) for key in ("p50", "p90", "p99")},
                            "within_budget": file.within(self.budget),
                        }
                        for file in product.files
                    ],
                }
                for product in self.products
            ],
            "budget": {
                "latency_ms": self.budget.latency_budget_ms,
                "size_mb": self.budget.size_budget_mb,
            },
            "largest_within_budget": largest
            and {
                "student": largest[0].spec.name,
                "image_shape": list(largest[0].spec.shape),
                "product": largest[0].product,
                "precision": largest[1].precision,
            },
            "sentence": self.sentence(),
            "notes": list(self.notes),
            "settings": {"threads": self.threads, "batch": 1, "duration_s": self.seconds},
            "conditions": self.conditions,
        }


def plain_size(size: ImageSize) -> str:
    """Return the height and width of a size as ``--image-size`` reads it."""
    return size_text(short_size(shape_of(size)[1:]))


def candidate_name(product: PricedProduct) -> str:
    """Return the name of a product's candidate, such as ``mobilenetv2x0.5 at 96 px``."""
    return f"{product.spec.name} at {plain_size(product.spec.image_size)} px"


def file_name(product: PricedProduct, file: PricedFile) -> str:
    """Return the name of a file for sentences."""
    return f"{candidate_name(product)}, {product.product} {file.precision}"


def budget_words(budget: CostBudget) -> str:
    """Return a budget in words."""
    limits = []
    if budget.latency_budget_ms is not None:
        limits.append(f"{budget.latency_budget_ms:g} ms")
    if budget.size_budget_mb is not None:
        limits.append(f"{budget.size_budget_mb:g} MB")
    return " and ".join(limits)


def _excess(file: PricedFile, budget: CostBudget) -> float:
    """Return the largest ratio of a cost of a file to its limit."""
    slow = file.latency.p50 / budget.latency_budget_ms if budget.latency_budget_ms else 0.0
    large = file.size_bytes / (budget.size_budget_mb * 1e6) if budget.size_budget_mb else 0.0
    return max(slow, large)
