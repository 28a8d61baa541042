"""One step of the parity ladder against numbers worked out by hand."""

import numpy as np
import pytest

from imf_deploy.records.checks import Rung, first_broken
from imf_deploy.verification.ladder import TOLERANCES, Tolerance, rung_name, step

BEFORE = np.array([[2.0, -1.0], [-4.0, 3.0], [1.0, 0.0], [0.0, 0.01]], np.float32)


def test_numbers_by_hand() -> None:
    logits = BEFORE.copy()
    logits[0, 0] += 0.5
    logits[3] = [0.03, 0.01]  # now the other class
    rung = step("ONNX fp32", "folded", logits, BEFORE, Tolerance(0.2, 0.75))
    assert (rung.name, rung.against, rung.status, rung.reason) == ("ONNX fp32", "folded", "pass", "")
    assert (rung.images, rung.max_abs_diff, rung.agreement, rung.min_agreement) == (4, 0.5, 0.75, 0.75)
    assert rung.tolerance == pytest.approx(0.8)
    assert "agreement 75.00% is below 76.00%" in step("a", "b", logits, BEFORE, Tolerance(0.2, 0.76)).reason


@pytest.mark.parametrize("key", [key for key in TOLERANCES if key[1] != "int8"])
def test_the_tolerance_is_relative_to_the_largest_logit(key: tuple[str, str]) -> None:
    limit = 4 * TOLERANCES[key].relative  # the largest is 4
    for change, status in ((0.97 * limit, "pass"), (1.03 * limit, "fail")):
        logits = BEFORE.copy()
        logits[1, 0] -= change
        rung = step("a", "b", logits, BEFORE, TOLERANCES[key])
        assert rung.status == status
        assert (status == "pass") or "over the tolerance" in rung.reason


def test_small_logits_have_an_absolute_tolerance() -> None:
    assert step("a", "b", BEFORE / 100, BEFORE / 100, Tolerance(2e-2)).tolerance == pytest.approx(2e-2)


@pytest.mark.parametrize(
    ("precision", "flips", "status"),
    [("fp32", 1, "pass"), ("fp32", 2, "fail"), ("fp16", 10, "pass"), ("fp16", 11, "fail")],
)
def test_agreement_counts_as_well(precision: str, flips: int, status: str) -> None:
    before = np.tile(np.array([[9.0, 0.0, 9.0 - 1e-5]], np.float32), (1000, 1))
    logits = before.copy()
    logits[:flips, 2] += 2e-5
    assert step("a", "b", logits, before, TOLERANCES["onnx", precision]).status == status


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tolerance", [Tolerance(1.0), Tolerance(0.0)])
def test_logits_that_are_not_finite_break(bad: float, tolerance: Tolerance) -> None:
    logits = BEFORE.copy()
    logits[2, 1] = bad
    assert step("a", "b", logits, BEFORE, tolerance).reason == "some logits are not finite"


def test_the_first_that_breaks() -> None:
    good, skipped = Rung("a", "", "pass"), Rung("b", "a", "not-run", "no CUDA device")
    bad, worse = Rung("c", "b", "fail", "too far"), Rung("d", "c", "fail", "farther")
    assert first_broken([good, skipped, bad, worse]) is bad
    assert first_broken([good, skipped]) is None


def test_a_dead_network_breaks_any_rung() -> None:
    for tolerance in TOLERANCES.values():
        assert step("a", "b", np.zeros_like(BEFORE), BEFORE, tolerance).status == "fail"


def test_names() -> None:
    assert rung_name("onnx", "fp16") == "ONNX fp16"
    assert rung_name("onnx", "int8", "tensorrt") == "ONNX int8 for tensorrt"
    assert rung_name("tensorrt_rtx", "int8") == "engine int8"
