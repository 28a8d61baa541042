from __future__ import annotations

from imf_deploy.report import Report
from imf_deploy.report.assemble import recommend


def test_exactly_one_point_below_the_best_is_within_one_point(report: Report) -> None:
    best, small = report["artifacts"][6], report["artifacts"][0]
    best["validation_accuracy"], small["validation_accuracy"] = 152 / 300, 149 / 300
    assert 152 / 300 - 0.01 > 149 / 300  # in binary fractions
    chosen = recommend([best, small])
    assert chosen is not None
    assert chosen["path"] == small["path"]


def test_a_latency_of_microseconds_is_not_told_as_nothing(report: Report) -> None:
    row = report["artifacts"][0]
    row["latency_ms"] = {"p50": 0.00321, "p90": 0.004, "p99": 0.005}
    chosen = recommend([row])
    assert chosen is not None
    assert "(0.00321 ms at batch 1)" in chosen["reason"]
