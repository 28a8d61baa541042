"""Put layers back into float, worst first, until the gate holds; or decline INT8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from imf_deploy.errors import GateError
from imf_deploy.progress import say
from imf_deploy.records.making import Score
from imf_deploy.settings import Gate

Attempt = Callable[[tuple[str, ...]], tuple[bytes, Score]]
"""Layers that stay in float -> the file, and how it does on validation images."""


@dataclass(frozen=True)
class Repaired:
    """A file that passes its gate.

    Attributes:
        content: The serialised ONNX.
        excluded: Layers that stay in float, worst first.
        score: On validation images.
        tries: Number of layers in float and the score, of every attempt, in order.
    """

    content: bytes
    excluded: tuple[str, ...]
    score: Score
    tries: list[dict[str, Any]]


def repair(
    attempt: Attempt, rank: Callable[[], list[str]], layers: int, gate: Gate, most: int, name: str
) -> Repaired:
    """Return the file with the fewest layers in float, of those that were tried, that passes.

    First none, then 1, 2, 4, … of the most harmful layers; once some number passes, numbers between
    it and the last failure are tried by halves. Source: ours.

    Args:
        attempt: Makes and scores a file.
        rank: Returns all layers, worst first; called when the first attempt fails.
        layers: How many there are.
        gate: What has to hold.
        most: Largest number of layers in float.
        name: What remarks and the error call the model.

    Raises:
        GateError: not even ``most`` layers in float are enough.
    """
    tries: list[dict[str, Any]] = []

    def run(count: int) -> tuple[Repaired, str]:
        excluded = tuple(rank()[:count]) if count else ()
        content, result = attempt(excluded)
        tries.append({"float_layers": count, **asdict(result)})
        reason = result.missed(gate)
        if reason:
            say(f"{name}: INT8 with {count} of {layers} layers in float misses the gate: {reason}")
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
            f"INT8 is declined for {name}: {reason}, with {failed} of {layers} layers in float "
            f"(with none: {whole})",
            "Ship fp32 or fp16, or try another --method or more --images",
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
