from __future__ import annotations

import math

import pytest

from imf_deploy.show import format as show


@pytest.mark.parametrize(
    ("fraction", "digits", "shown"),
    [
        (0.8906, 1, "89.1 %"),
        (1.0, 2, "100 %"),
        (0.999999, 2, "99.99 %"),  # one wrong image in a million is not "100 %"
        (0.0, 1, "0.0 %"),
        (None, 1, "–"),
        (math.nan, 1, "–"),
    ],
)
def test_percent(fraction: float | None, digits: int, shown: str) -> None:
    assert show.percent(fraction, digits) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.6204, "0.620"), (1.714, "1.71"), (48.26, "48.3"), (1234.5, "1234"), (0.0, "0.00"), (None, "–")],
)
def test_significant_digits(value: float | None, shown: str) -> None:
    assert show.significant(value) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (2_236_682, "", "2.24 M"),
        (94_730, "", "94.7 k"),
        (40, "", "40"),
        (8_910_000, "B", "8.91 MB"),
        (12, "B", "12 B"),
    ],
)
def test_scaled(value: int, unit: str, shown: str) -> None:
    assert show.scaled(value, unit) == shown


def test_difference_is_zero_only_when_it_is() -> None:
    assert show.difference(0.0) == "0"
    assert show.difference(1e-12) == "1.0e-12"
    assert show.difference(math.inf) == "–"


def test_accuracy_with_and_without_interval() -> None:
    assert show.accuracy(0.891, [0.877, 0.904]) == "89.1 % (87.7–90.4)"
    assert show.accuracy(0.891, None) == "89.1 %"
    assert show.accuracy(None, None) == "–"


def test_plain_values() -> None:
    assert show.plain({"cuda": False, "versions": {"torch": "2.14"}, "cpus": [0, 1], "x": None}) == (
        "cuda no, versions torch 2.14, cpus 0, 1, x –"
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (7.4, "7 s"), (42, "40 s"), (100, "2 min"), (250, "4 min"), (5400, "1 h 30 min"),
     (7200, "2 h"), (3600 * 3 + 700, "3 h 10 min")],
)  # fmt: skip
def test_no_more_figures_than_are_known(seconds: float, told: str) -> None:
    assert show.duration(seconds) == told
