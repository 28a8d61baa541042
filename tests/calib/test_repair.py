from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.calib.repair import repair
from imf_deploy.calib.score import rank_layers, score
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError
from imf_deploy.records.making import Score
from imf_deploy.settings import Gate
from imf_deploy.settings.quantize import Target

LAYERS = [f"layer{index}" for index in range(20)]
GATE = Gate(1.0, 0.97)


def scored(accuracy: float, agreement: float = 1.0) -> Score:
    return Score(100, accuracy, 0.9, agreement, 0.0, 0.0)


@pytest.mark.parametrize("needed", range(12))
def test_repair_finds_the_fewest_layers(needed: int) -> None:
    tried = []

    def attempt(excluded: tuple[str, ...]) -> tuple[bytes, Score]:
        tried.append(len(excluded))
        assert list(excluded) == LAYERS[: len(excluded)]
        return str(len(excluded)).encode(), scored(0.9 if len(excluded) >= needed else 0.5)

    if needed > 10:
        with pytest.raises(GateError, match=r"10 of 20 layers in float"):
            repair(attempt, lambda: LAYERS, 20, GATE, 10, "net")
        assert max(tried) == 10
        return
    found = repair(attempt, lambda: LAYERS, 20, GATE, 10, "net")
    assert len(found.excluded) == needed
    assert found.content == str(needed).encode()
    assert [entry["float_layers"] for entry in found.tries] == tried
    assert len(set(tried)) == len(tried)


def test_nothing_may_be_put_back() -> None:
    with pytest.raises(GateError, match=r"0 of 20 layers in float"):
        repair(lambda excluded: (b"", scored(0.5)), lambda: LAYERS, 20, GATE, 0, "net")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (scored(0.89), ""),
        (scored(0.95), ""),
        (scored(0.889), "accuracy falls by 1.10 points"),
        (scored(0.9, 0.97), ""),
        (scored(0.9, 0.969), "agreement 96.90% is below 97.00%"),
        (Score(100, 0.9, 0.9, 1.0, 0.0, float("nan")), "not finite"),
    ],
)
def test_gate(result: Score, reason: str) -> None:
    found = result.missed(GATE)
    assert reason in found
    assert bool(found) == bool(reason)


def test_score() -> None:
    reference = np.array([[2, 0], [0, 2], [0, 2], [2, 0]], np.float32)
    logits = np.array([[2, 0], [0, 2], [2, 0], [2, 0]], np.float32)
    result = score(logits, reference, np.array([0, 1, 1, 1]))
    assert (result.accuracy, result.float_accuracy, result.agreement) == (0.5, 0.75, 0.75)
    assert result.mse == pytest.approx(1)
    p = np.exp(2) / (np.exp(2) + 1)
    assert result.divergence == pytest.approx((p * 2 - (1 - p) * 2) / 4)
    # A constant added to all logits changes no probability.
    assert score(reference + 100, reference, np.zeros(4, np.int64)).divergence == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("target", get_args(Target))
def test_ranking_finds_the_planted_layer(planted: Path, many: DataSet, target: Target) -> None:
    model = open_float_model(planted)
    found: Ranges = measure_ranges(model, many.train, "minmax")
    harms = rank_layers(model, found, target, many.validation, 60, 0)
    assert sorted(harm.layer for harm in harms) == sorted(layer.name for layer in model.layers)
    first, second, third, head = (layer.name for layer in model.layers)
    if target == "tensorrt":  # only what a layer reads is quantised: the third reads it
        worst, rest = {third}, {first, second, head}
    else:
        worst, rest = {second, third}, {first, head}
    ranked = [harm.layer for harm in harms]
    assert set(ranked[: len(worst)]) == worst
    by_name = {harm.layer: harm for harm in harms}
    assert min(by_name[name].divergence for name in worst) > 10 * max(by_name[n].divergence for n in rest)
    assert max(by_name[name].agreement for name in worst) < 0.9
