"""Return layers to float, most harmful first, until the gate holds; otherwise decline INT8."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from imf_deploy.errors import GateError
from imf_deploy.progress import say
from imf_deploy.records.making import Score
from imf_deploy.settings import Gate

Attempt = Callable[[tuple[str, ...]], tuple[bytes, Score]]
"""Layers that stay in float -> the file, and its score on validation images."""


@dataclass(frozen=True)
class Repaired:
    """A file that passes its gate.

    Attributes:
        content: The serialised ONNX.
        excluded: Layers that stay in float, most harmful first.
        score: Score on validation images.
        tries: Number of layers in float and the score, for every attempt in order.
    """

    content: bytes
    excluded: tuple[str, ...]
    score: Score
    tries: list[dict[str, Any]]


def repair(
    attempt: Attempt,
    rank: Callable[[], list[str]],
    layers: int,
    gate: Gate,
    most: int,
    name: str,
    form: Literal["INT8", "fp16"] = "INT8",
) -> Repaired:
    """Return the passing file with the fewest layers in float, of those that were tried.

    First none are in float, then 1, 2, 4, … of the most harmful layers; after a number has passed, the
    interval between it and the last failure is bisected. Source: ours.

    Args:
        attempt: Makes and scores a file.
        rank: Returns all layers, most harmful first; called when the first attempt fails.
        layers: Number of layers.
        gate: Gate that has to hold.
        most: Largest number of layers in float.
        name: Name of the model in messages.
        form: Precision of the other layers.

    Raises:
        GateError: not even ``most`` layers in float are enough.
    """
    tries: list[dict[str, Any]] = []
    wide = "float" if form == "INT8" else "fp32"

    def run(count: int) -> tuple[Repaired, str]:
        excluded = tuple(rank()[:count]) if count else ()
        content, result = attempt(excluded)
        tries.append({"float_layers": count, **result.attempt()})
        reason = result.missed(gate)
        if reason:
            say(f"{name}: {form} with {count} of {layers} layers in {wide} misses the gate: {reason}")
        return Repaired(content, excluded, result, tries), reason

    best, reason = run(0)
    if not reason:
        return best
    whole, failed, passed = reason, 0, 0
    for count in _doubling(most):
        best, reason = run(count)
        if not reason:
            passed = count
            break
        failed = count
    if reason:
        raise GateError(
            f"{form} is declined for {name}: {reason}, with {failed} of {layers} layers in {wide} "
            f"(with none: {whole})",
            "Deploy fp32 or fp16, or try another `method` or more `images`"
            if form == "INT8"
            else "Deploy fp32",
        )
    while passed - failed > 1:
        middle = (passed + failed) // 2
        candidate, reason = run(middle)
        if reason:
            failed = middle
        else:
            best, passed = candidate, middle
    return best


def _doubling(most: int) -> list[int]:
    """Return 1, 2, 4, … and ``most`` itself."""
    return [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most] * (most > 0)
