"""Benchmarking: latency, start-up, memory and energy of deployable files."""

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.latency import Latency, Ratio, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.benchmark.result import BenchResult, BenchRow
from imf_deploy.benchmark.stage import bench
from imf_deploy.benchmark.table import render

__all__ = [
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
