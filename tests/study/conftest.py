"""A small study whose means and intervals can be calculated by hand."""

from __future__ import annotations

import pytest

from imf_deploy.study.results import Network, Trained

STUDENT, THIN, THINNEST = "cifar:net", "cifar:thin", "cifar:thinnest"


def run(method: str, seed: int, seconds: float, student: str = STUDENT, **products: float) -> Trained:
    """Return a training; products in percent, ``imf1`` for ``imf@1``; validation is a point above test."""
    test = {name.replace("imf", "imf@"): value / 100 for name, value in products.items()}
    validation = {name: value + 0.01 for name, value in test.items()}
    return Trained(student, method, "", seed, 8, validation, test, seconds)


@pytest.fixture
def trained() -> list[Trained]:
    return [
        run("imf", 0, 12, plain=82.0, imf1=79.0, imf2=83.0),
        run("imf", 1, 24, plain=83.0, imf1=81.0, imf2=83.5),
        run("imf", 2, 33, plain=84.0, imf1=83.0, imf2=84.0),
        run("kd", 0, 10, plain=81.0),
        run("kd", 1, 20, plain=82.2),
        run("kd", 2, 30, plain=82.8),
        run("ce", 0, 5, plain=80.0),
        run("ce", 1, 10, plain=80.0),
        run("dkd", 1, 21, plain=81.0),
        run("kd", 0, 4, THIN, plain=79.0),
        run("kd", 1, 4, THIN, plain=80.0),
        run("kd", 2, 4, THIN, plain=80.0),
        run("ce", 0, 4, THIN, plain=77.0),
        run("kd", 0, 2, THINNEST, plain=70.0),
        # Chose settings only, and was never tested:
        Trained(STUDENT, "fitnet", "", 0, 8, {"plain": 0.8}, {}, 11.0),
        Trained(STUDENT, "imf", "alpha=0", 0, 8, {"plain": 0.99}, {"plain": 0.99}, 1.0),
    ]


@pytest.fixture
def networks() -> list[Network]:
    return [
        Network(STUDENT, "plain", 2_240_000, 40_000_000, {"fp32": 2.0, "int8": 1.0}, 0.815),
        Network(STUDENT, "imf@1", 50_000, 10_000_000, {"fp32": 0.5, "int8": 0.3}, 0.805),
        Network(STUDENT, "imf@2", 1_120_000, 30_000_000, {"fp32": 1.5}),
        Network(THIN, "plain", 90_000, 12_000_000, {"fp32": 0.6}),
        Network(THINNEST, "plain", 9_000, 2_000_000, {"fp32": 0.1}),
    ]
