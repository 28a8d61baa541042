from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from imf_deploy.forms import read_typed
from imf_deploy.records.making import Calibration
from imf_deploy.records.report import Report
from imf_deploy.report.html import render_html
from imf_deploy.report.plots import SHOWN, sensitivity_bars


def harm(layer: str, divergence: float | None) -> dict[str, Any]:
    return {"layer": layer, "op_type": "Conv", "divergence": divergence, "mse": 0.1, "agreement": 0.9}


@pytest.fixture
def calibration() -> dict[str, Any]:
    layers = [harm("features.1.<conv>", 0.9)] + [harm(f"layer{i}", 0.01 / i) for i in range(1, 30)]
    return {
        "target": "onnxruntime-cpu",
        "method": "minmax",
        "images": 512,
        "layers": 30,
        "float_layers": ["features.1.<conv>"],
        "sensitivity": layers,
    }


def texts(svg: str | None) -> list[str]:
    assert svg is not None
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("text")]


def test_the_worst_layers_are_shown(calibration: dict[str, Any]) -> None:
    svg = sensitivity_bars(read_typed(Calibration, calibration), "a")
    shown = texts(svg)
    assert {"features.1.<conv>", "layer1", "INT8", "back in float"} <= set(shown)
    assert sum(text.startswith(("layer", "features")) for text in shown) == SHOWN
    assert svg is not None
    assert "var(--series-2" in svg
    assert "layer1 0.01" in ET.fromstring(svg).get("aria-label", "")
    assert svg == sensitivity_bars(read_typed(Calibration, calibration), "a")


@pytest.mark.parametrize("layers", [[], [harm("a", 0.0), harm("b", 0.0)], [harm("a", None)]])
def test_nothing_to_show(calibration: dict[str, Any], layers: list[dict[str, Any]]) -> None:
    calibration["sensitivity"] = layers
    assert sensitivity_bars(read_typed(Calibration, calibration), "a") is None


def test_a_layer_without_a_number_and_one_without_harm(calibration: dict[str, Any]) -> None:
    calibration["sensitivity"] = [harm("ruin", None), harm("bad", 0.5), harm("none", 0.0)]
    calibration["float_layers"] = []
    assert {"ruin", "bad", "none", "INT8"} <= set(
        texts(sensitivity_bars(read_typed(Calibration, calibration), "a"))
    )


def test_page(report: dict[str, Any], calibration: dict[str, Any]) -> None:
    assert 'id="int8"' not in render_html(Report.of(report))
    for row in report["artifacts"][:2]:
        row["calibration"] = calibration
    page = render_html(Report.of(report))
    assert page.count("the most sensitive of 30 layers") == 2
    assert "features.1.&lt;conv&gt;" in page
    assert "features.1.<conv>" not in page
    # Two pictures of one kind share no id.
    assert "sensitivity-0-" in page
    assert "sensitivity-1-" in page


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.9, 0.2, 1e-5], {"0.001", "0.1", "1"}),
        ([0.9, 0.4, 0.3], {"0.2", "0.5", "1"}),
        ([3e-5, 2e-5], {"2e-05", "5e-05"}),
    ],
)
def test_no_axis_shows_the_source_of_a_formula(
    calibration: dict[str, Any], values: list[float], labels: set[str]
) -> None:
    calibration["sensitivity"] = [harm(f"layer{place}", value) for place, value in enumerate(values)]
    shown = set(texts(sensitivity_bars(read_typed(Calibration, calibration), "a")))
    assert labels <= shown
    assert not [text for text in shown if "$" in text or "\\" in text]
