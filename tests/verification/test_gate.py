"""What passes a gate, at its very edge."""

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.verification.gate import Gate


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


@pytest.mark.parametrize(
    "content",
    [
        {},
        None,
        [1, 0.97],
        {"max_accuracy_drop": 1.0},
        {"max_accuracy_drop": "1.0", "min_agreement": 0.97},
        {"max_accuracy_drop": True, "min_agreement": 0.97},
        {"max_accuracy_drop": None, "min_agreement": 0.97},
        {"max_accuracy_drop": float("nan"), "min_agreement": 0.97},
        {"max_accuracy_drop": 10**400, "min_agreement": 0.97},
        {"max_accuracy_drop": 1.0, "min_agreement": float("inf")},
        {"max_accuracy_drop": 1.0, "min_agreement": "\n" * 1000},
    ],
)
def test_records_that_hold_no_gate(content: object) -> None:
    with pytest.raises(ImfDeployError, match="a record holds") as caught:
        Gate.from_dict(content)
    assert not isinstance(caught.value, UsageError)
    assert len(str(caught.value)) < 200
    assert "--max" not in str(caught.value)
