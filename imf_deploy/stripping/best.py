"""Choose the products that are worth making, on validation images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from imf_deploy.data import DataSet, eval_batches
from imf_deploy.distillation.distill import Distilled
from imf_deploy.method.names import PLAIN, blocks_kept
from imf_deploy.progress import track
from imf_deploy.stripping.stage import make_product
from imf_deploy.verification.proof import count_macs

WITHIN = 0.01
"""Maximum loss of accuracy of a smaller product relative to ``plain``."""
PART = 0.5
"""Maximum fraction of the student's multiply-accumulates in a small product."""
# Rounding must not decide: 149 correct of 300 are within a point of 152.
_EPSILON = 1e-9


@dataclass(frozen=True)
class Candidate:
    """A product that can be made.

    Attributes:
        product: ``plain`` or ``imf@k``.
        macs: Multiply-accumulates for one image.
        validation_accuracy: Accuracy on the validation split, from 0 to 1.
    """

    product: str
    macs: int
    validation_accuracy: float


@dataclass(frozen=True)
class Selection:
    """The candidates to make.

    Attributes:
        candidates: All of them, ``plain`` first.
        smallest: The smallest ``imf@k`` that is about as accurate as ``plain``, or ``None``.
        most_accurate: The most accurate ``imf@k`` of at most half the student's size, or ``None``.
    """

    candidates: tuple[Candidate, ...]
    smallest: Candidate | None
    most_accurate: Candidate | None

    @property
    def made(self) -> list[str]:
        """Names of the products to make, in the order of the candidates."""
        chosen = {PLAIN, *(each.product for each in (self.smallest, self.most_accurate) if each)}
        return [each.product for each in self.candidates if each.product in chosen]

    @property
    def left_out(self) -> list[Candidate]:
        """Products that are not made."""
        return [each for each in self.candidates if each.product not in self.made]

    def sentence(self) -> str:
        """Return the products to make and the reasons, in one sentence."""
        plain = self.candidates[0]
        near = f"within {WITHIN * 100:.0f} point of it"
        half = "at most half of its multiply-accumulates"
        parts = [f"plain ({plain.validation_accuracy:.1%})"]
        if self.smallest and self.smallest == self.most_accurate:
            parts.append(f"{_shown(self.smallest)}, the smallest {near} and the most accurate with {half}")
        else:
            parts.append(
                f"{_shown(self.smallest)}, the smallest {near}" if self.smallest else f"no imf@k is {near}"
            )
            parts.append(
                f"{_shown(self.most_accurate)}, the most accurate with {half}"
                if self.most_accurate
                else f"no imf@k has {half}"
            )
        return f"Products, by their accuracy on validation images: {'; '.join(parts)}"


def _shown(candidate: Candidate) -> str:
    return f"{candidate.product} ({candidate.validation_accuracy:.1%})"


def rate_products(
    distilled: Distilled, names: Sequence[str], data: DataSet, device: torch.device
) -> list[Candidate]:
    """Measure products before they are made, by one pass of the training graph over validation images.

    Args:
        distilled: The training graph; it is moved back to the CPU.
        names: Products, ``plain`` first.
        data: Data with a validation split.
        device: Device of the graph.
    """
    graph = distilled.graph.to(device).eval()
    right, task = dict.fromkeys(names, 0.0), data.preprocess.task
    with torch.inference_mode(), track("Comparing products", len(data.validation)) as advance:
        for images, labels in eval_batches(data.validation, data.preprocess):
            own, branches = graph(images.to(device))
            for name in names:
                logits = branches.attentive[k - 1] if (k := blocks_kept(name)) else own
                right[name] += float(task.right(logits.cpu().numpy(), labels.numpy()).sum())
            advance(len(images))
    graph.cpu()
    size, count = distilled.spec.shape, len(data.validation)
    return [
        Candidate(name, count_macs(make_product(distilled, name), size), right[name] / count)
        for name in names
    ]


def select(candidates: Sequence[Candidate]) -> Selection:
    """Choose ``plain``, the smallest that is about as accurate, and the most accurate that is small.

    Args:
        candidates: ``plain`` first, then every ``imf@k``.
    """
    plain, *others = candidates
    near = [c for c in others if c.validation_accuracy >= plain.validation_accuracy - WITHIN - _EPSILON]
    small = [c for c in others if c.macs <= plain.macs * PART]
    return Selection(
        tuple(candidates),
        min(near, key=lambda c: (c.macs, -c.validation_accuracy), default=None),
        min(small, key=lambda c: (-c.validation_accuracy, c.macs), default=None),
    )
