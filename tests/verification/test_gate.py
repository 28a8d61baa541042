"""What passes a gate, at its very edge."""

from dataclasses import asdict

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import Gate
from imf_deploy.settings.base import from_record


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
    ("name", "value"),
    [
        ("max_accuracy_drop", -1),
        ("max_accuracy_drop", float("nan")),
        ("min_agreement", 97),
        ("min_agreement", float("nan")),
    ],
)
def test_values_that_mean_nothing(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {value} is out of range") as caught:
        Gate(**{name: value})
    assert caught.value.hint


def test_the_form_of_records() -> None:
    assert from_record(Gate, asdict(Gate(2.5, 0.9))) == Gate(2.5, 0.9)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [1, 0.97],
        {"max_accuracy_drop": 1.0, "other": 0},
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
    with pytest.raises(ImfDeployError, match=r"cannot be used|out of range") as caught:
        from_record(Gate, content)
    assert not isinstance(caught.value, UsageError)
    assert len(str(caught.value)) < 200
