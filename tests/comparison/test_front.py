from __future__ import annotations

import random

import pytest

from imf_deploy.comparison.stage import pareto_front


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 0.9)], [0]),
        ([(1, 0.9), (2, 0.8)], [0]),
        ([(2, 0.95), (1, 0.9)], [1, 0]),
        ([(1, 0.9), (1, 0.95)], [1]),
        ([(1, 0.9), (2, 0.9)], [0]),
        ([(1, 0.9), (1, 0.9), (3, 0.8)], [0, 1]),
    ],
)
def test_small_cases(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


def test_the_definition_holds_for_many_points() -> None:
    dice = random.Random(0)
    points = [(dice.randrange(12), dice.randrange(12)) for _ in range(60)]

    def beaten(point: tuple[int, int]) -> bool:
        return any(c <= point[0] and a >= point[1] and (c, a) != point for c, a in points)

    expected = {place for place, point in enumerate(points) if not beaten(point)}
    assert set(pareto_front(points)) == expected
    assert 1 < len(expected) < 60
