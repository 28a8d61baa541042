"""The Pareto front: the files that no other file beats on both sides at once."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the points that no other point dominates, cheapest first.

    A point dominates another if it costs no more and earns no less, and is better in one of both.
    Points that are equal in both are all on the front, or none is.

    Args:
        points: Cost (latency, size) and earnings (accuracy) of each; all finite.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        cost, earned = points[place]
        # Everything before costs no more, so only what earns more than all of it is new.
        if not front or earned > points[front[-1]][1] or (cost, earned) == points[front[-1]]:
            front.append(place)
    return front
