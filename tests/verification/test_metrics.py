"""Gates on any metric: which are accepted, what they measure, and the metrics of users."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.metrics import MetricValue, missed
from imf_deploy.settings import Gate
from imf_deploy.settings.base import from_record
from imf_deploy.settings.gate import GivenGate
from imf_deploy.tasks.own_metric import load_metric
from imf_deploy.verification.metrics import Metrics, check_gate
from imf_deploy.verification.parity import class_changes, compare, worst_inputs

CLASSES = ("a", "b", "c")
LABELS = np.array([0, 0, 1, 1, 2, 2])
PYTORCH = np.eye(3, dtype=np.float32)[LABELS] * 4
FILE = PYTORCH.copy()
FILE[0] = [0, 4, 0]


def value(old: float | None, new: float | None, unit: str = "points", better: bool = True) -> MetricValue:
    return MetricValue(title="it", unit=unit, higher_is_better=better, value=new, reference=old)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (value(0.9, 0.89), ""),
        (value(0.9, 0.95), ""),
        (value(0.9, 0.8899), "it falls by 1.01 points from 90.00%, and 1 are allowed"),
        (value(0.02, 0.03, better=False), ""),
        (value(0.02, 0.01, better=False), ""),
        (value(0.02, 0.0301, better=False), "it rises by 1.01 points from 2.00%, and 1 are allowed"),
        (value(0.5, 1.5, "nats", False), ""),
        (value(0.5, 1.75, "nats", False), "it rises by 1.25 nats from 0.5, and 1 are allowed"),
        (value(30.0, 28.5, ""), "it falls by 1.5 from 30, and 1 are allowed"),
        (value(0.9, None), "it is not defined or not finite"),
        (value(None, 0.9), "it of the float model is not defined or not finite"),
    ],
)
def test_units_and_directions(metric: MetricValue, reason: str) -> None:
    assert missed(Gate(gate={"ece": 1.0}), 1.0, 1.0, 1.0, {"ece": metric}) == reason


def test_top1_is_the_limit_of_accuracy() -> None:
    assert Gate(gate={"top1": 0.5, "ece": 2}) == Gate(max_accuracy_drop=0.5, gate="ece=2")
    assert Gate(gate="ece=2,nll=0.1") == Gate(gate=(("nll", 0.1), ("ece", 2.0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"gate": "top1=1", "max_accuracy_drop": 1.0},
            "`gate` limits top1, and `max_accuracy_drop` does too",
        ),
        ({"gate": "ece=1,ece=2"}, "`gate` limits ece twice"),
        ({"gate": {"f1": 1.0}}, "`gate` 'f1' is not a metric.*macro_f1"),
        ({"gate": "ece"}, "`gate` 'ece' is not a metric and an amount.*NAME=AMOUNT"),
        ({"gate": "ece=much"}, "`gate` 'ece=much' is not a metric and an amount"),
        ({"gate": "ece=-1"}, "`gate` -1.0 is out of range"),
        ({"gate": "ece=nan"}, "`gate` nan is out of range"),
        ({"gate": "top0=1"}, "`gate` 'top0' is not a metric"),
        ({"gate": [["ece"]]}, "`gate` .* cannot be used"),
        ({"gate": {"ece": None}}, "`gate` None cannot be used"),
        ({"metric": "module"}, "`metric` 'module' is not a function"),
        ({"metric": "a/b:c"}, "`metric` 'a/b:c' is not a function"),
        ({"metric": "module:ece"}, "there is another metric of the name ece"),
        ({"metric": "a:f,b:f"}, "there is another metric of the name f"),
    ],
)
def test_gates_that_mean_nothing(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Gate(**given)


def test_classes_with_commas_and_equal_signs() -> None:
    gate = Gate(gate="recall:red, or green=1,precision:a=b=2,ece=3")
    assert dict(gate.gate) == {"recall:red, or green": 1.0, "precision:a=b": 2.0, "ece": 3.0}


def test_the_form_of_records() -> None:
    gate = Gate(gate={"top1": 0.5, "nll": 0.1}, metric=("module:f",))
    assert from_record(Gate, json.loads(json.dumps(asdict(gate)))) == gate
    assert from_record(Gate, {"max_accuracy_drop": 2.0, "min_agreement": 0.9}) == Gate(2.0, 0.9)


def test_what_a_command_gives_of_a_gate() -> None:
    recorded = Gate(2.0, 0.9, gate="ece=3")
    assert GivenGate().over(recorded, "f") == recorded
    assert GivenGate(gate="top1=1,nll=1").over(recorded, "f") == Gate(1.0, 0.9, gate="nll=1")
    assert GivenGate(max_accuracy_drop=0).over(recorded, "f") == Gate(0.0, 0.9, gate="ece=3")
    with pytest.raises(UsageError, match="`gate` limits top1, and `max_accuracy_drop` does too"):
        GivenGate(max_accuracy_drop=1.0, gate="top1=1").over(recorded, "f")


def test_code_that_only_a_record_names_is_not_run() -> None:
    recorded = Gate(gate="f=1", metric="evil:f")
    with pytest.raises(UsageError, match=r"names 'evil:f' as the code of a metric.*add `metric` evil:f"):
        GivenGate().over(recorded, "net.onnx")
    assert GivenGate(metric="evil:f").over(recorded, "net.onnx") == recorded
    assert GivenGate(gate="ece=1").over(recorded, "net.onnx") == Gate(gate="ece=1")
    assert GivenGate().over(Gate(metric="evil:f"), "net.onnx") == Gate()


def measured(gate: Gate) -> Metrics:
    from imf_deploy.preprocess import Preprocess

    return Metrics.of(gate, Preprocess.of_tensors((3, 8, 8), CLASSES))


def test_a_file_is_measured_and_judged() -> None:
    gate = Gate(max_accuracy_drop=100.0, min_agreement=0.0, gate={"recall:a": 40.0})
    found = compare(FILE, PYTORCH, LABELS, gate, metrics=measured(gate))
    assert found.metrics["recall:a"].value == 0.5
    assert found.metrics["balanced_accuracy"].value == pytest.approx(5 / 6)
    assert found.metrics["balanced_accuracy"].reference == 1.0
    assert found.metrics["top1"].interval == found.accuracy_interval
    assert found.reason == "recall of a falls by 50.00 points from 100.00%, and 40 are allowed"


def test_classes_and_confusions() -> None:
    broken = FILE.copy()
    broken[5] = math.nan
    first, second, third = class_changes(broken, PYTORCH, LABELS, CLASSES)
    assert (first.recall, first.precision, first.confused) == (0.5, 1.0, {"b": 1})
    assert (second.recall, second.precision, second.predicted, second.confused) == (1.0, 2 / 3, 3, {})
    assert (third.recall, third.confused, third.changed, third.pytorch_precision) == (0.5, {"": 1}, 1, 1.0)


def test_probabilities_are_measured_as_their_logarithms() -> None:
    probable = np.exp(PYTORCH) / np.exp(PYTORCH).sum(1, keepdims=True)
    of_logits = compare(FILE, PYTORCH, LABELS, Gate(), metrics=measured(Gate())).metrics
    found = compare(
        np.exp(FILE) / np.exp(FILE).sum(1, keepdims=True), probable, LABELS, Gate(), metrics=measured(Gate())
    ).metrics
    assert {name: each.value for name, each in found.items()} == {
        name: pytest.approx(each.value, abs=1e-5) for name, each in of_logits.items()
    }


OWN = """
import numpy as np

def cost(logits, labels):
    assert logits.dtype == np.float32 and labels.dtype == np.int64
    logits[:] = 0  # it is given copies
    return float(labels.mean())
cost.higher_is_better = False
cost.unit = "EUR"

def share(logits, labels):
    return np.float32((logits.argmax(1) == labels).mean())
share.higher_is_better = True
share.unit = "points"

def percent(logits, labels):
    return 100 * share(logits, labels)
percent.higher_is_better = True
percent.unit = "points"

def undirected(logits, labels):
    return 1.0

def failing(logits, labels):
    raise KeyError("a\\nlong story")
failing.higher_is_better = True

def text(logits, labels):
    return "0.5"
text.higher_is_better = True

def infinite(logits, labels):
    return float("inf")
infinite.higher_is_better = True

def large(logits, labels):
    return float("nan") if logits.max() > 3.9 else 1.0
large.higher_is_better = True

value = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_metrics"


def test_metrics_of_the_users(own: str, data: DataSet) -> None:
    gate = Gate(100.0, 0.0, gate={"share": 10.0, "cost": 0.5}, metric=(f"{own}:cost", f"{own}:share"))
    check_gate(gate, data, ["test", "validation"])
    found = compare(FILE, PYTORCH, LABELS, gate, metrics=measured(gate))
    assert (found.metrics["cost"].value, found.metrics["cost"].unit) == (1.0, "EUR")
    assert found.reason == "share falls by 16.67 points from 100.00%, and 10 are allowed"
    assert (PYTORCH[:, 0] != 0).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("undirected", "does not state whether more of it is better.*undirected.higher_is_better = True"),
        ("failing", r"failed on .* images \(KeyError: .*long story"),
        ("text", "returned '0.5', not a number"),
        ("infinite", "is inf for random logits"),
        ("percent", 'is from 0 to 1. Return a fraction, or set percent.unit = "%"'),
        ("value", "has no function 'value'"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_metrics_that_cannot_be_used(own: str, data: DataSet, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_gate(Gate(metric=f"{own}:{name}"), data, ["test"])
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_exist_or_fails(tmp_path: Path, own: str) -> None:
    with pytest.raises(UsageError, match="there is no module for the metric 'nowhere:f'"):
        load_metric("nowhere:f")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ImfDeployError, match=r"importing broken failed \(ZeroDivisionError"):
        load_metric("broken:f")


def test_a_metric_that_fails_later_is_not_defined(own: str) -> None:
    gate = Gate(100.0, 0.0, gate={"large": 1.0}, metric=f"{own}:large")
    found = compare(FILE, PYTORCH, LABELS, gate, metrics=measured(gate))
    assert found.metrics["large"].value is None
    assert found.reason == "large of the float model is not defined or not finite"


def test_a_gate_that_the_data_cannot_judge(data: DataSet) -> None:
    with pytest.raises(
        UsageError, match=r"`gate` recall:hat is not defined on the test images of .*no class 'hat'"
    ):
        check_gate(Gate(gate="recall:hat=1"), data, ["test"])


def test_other_code_is_another_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "def f(logits, labels):\n    return 1.0\nf.higher_is_better = True\n"
    for name, source in (("first_code", text), ("second_code", text), ("third_code", text + "# other\n")):
        (tmp_path / f"{name}.py").write_text(source)
    first, second, third = (
        load_metric(f"{name}_code:f").identity.split()[1] for name in ("first", "second", "third")
    )
    assert first == second != third


def test_a_function_of_the_script_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    def mine(logits: Any, labels: Any) -> float:
        return 1.0

    mine.higher_is_better = True  # type: ignore[attr-defined]
    monkeypatch.setattr(__main__, "mine", mine, raising=False)
    assert load_metric("__main__:mine").value(PYTORCH, LABELS) == 1.0


def test_the_worst_images_of_a_network_behind_a_softmax() -> None:
    probable = np.exp(PYTORCH) / np.exp(PYTORCH).sum(1, keepdims=True)
    found = worst_inputs(np.exp(FILE) / np.exp(FILE).sum(1, keepdims=True), probable, LABELS, CLASSES)
    assert found[0].answer == "b"
    assert found[0].pytorch_probability == pytest.approx(float(probable[0, 0]), rel=1e-4)
