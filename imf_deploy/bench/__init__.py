"""Latency, measured honestly."""

from imf_deploy.bench.conditions import conditions
from imf_deploy.bench.latency import Latency, Ratio, ratio
from imf_deploy.bench.measure import measure
from imf_deploy.bench.stage import OPENERS, BenchResult, BenchRow, bench, render

__all__ = [
    "OPENERS",
    "BenchResult",
    "BenchRow",
    "Latency",
    "Ratio",
    "bench",
    "conditions",
    "measure",
    "ratio",
    "render",
]
