"""What passes a gate, at its very edge."""

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.gate import Gate


@pytest.mark.parametrize(
    ("accuracy", "agreement", "reason"),
    [
        (0.90, 1.0, ""),
        (0.89, 0.97, ""),
        (0.95, 0.97, ""),
        (0.889, 1.0, "accuracy falls by 1.10 points from 90.00%, and 1 are allowed"),
        (0.90, 0.969, "top-1 agreement 96.90% is below 97.00%"),
    ],
)
def test_edges(accuracy: float, agreement: float, reason: str) -> None:
    assert Gate().reason(accuracy, 0.9, agreement) == reason


@pytest.mark.parametrize(
    ("gate", "flag"),
    [
        (Gate(max_accuracy_drop=-1), "--max-accuracy-drop"),
        (Gate(max_accuracy_drop=float("nan")), "--max-accuracy-drop"),
        (Gate(min_agreement=97), "--min-agreement"),
        (Gate(min_agreement=float("nan")), "--min-agreement"),
    ],
)
def test_values_that_mean_nothing(gate: Gate, flag: str) -> None:
    with pytest.raises(UsageError, match=flag) as caught:
        gate.check()
    assert caught.value.hint


def test_the_form_of_records() -> None:
    assert Gate.from_dict(Gate(2.5, 0.9).to_dict()) == Gate(2.5, 0.9)
