"""Latency, measured honestly."""

from imf_deploy.bench.conditions import conditions
from imf_deploy.bench.latency import Latency, Ratio, ratio
from imf_deploy.bench.measure import measure
from imf_deploy.bench.result import BenchResult, BenchRow
from imf_deploy.bench.stage import bench
from imf_deploy.bench.table import render
from imf_deploy.bench.ways import OPENERS, Choice, Opener, Way

__all__ = [
    "OPENERS",
    "BenchResult",
    "BenchRow",
    "Choice",
    "Latency",
    "Opener",
    "Ratio",
    "Way",
    "bench",
    "conditions",
    "measure",
    "ratio",
    "render",
]
