from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from imf_deploy.report.html import render_html
from imf_deploy.report.schema import Calibration, Harm, Report
from imf_deploy.report.sensitivity import SHOWN, sensitivity_bars


def harm(layer: str, divergence: float | None) -> Harm:
    return {"layer": layer, "op_type": "Conv", "divergence": divergence, "agreement": 0.9}


@pytest.fixture
def calibration() -> Calibration:
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


def test_the_worst_layers_are_shown(calibration: Calibration) -> None:
    svg = sensitivity_bars(calibration, "a")
    shown = texts(svg)
    assert {"features.1.<conv>", "layer1", "INT8", "back in float"} <= set(shown)
    assert sum(text.startswith(("layer", "features")) for text in shown) == SHOWN
    assert svg is not None
    assert "var(--series-2" in svg
    assert "layer1 0.01" in ET.fromstring(svg).get("aria-label", "")
    assert svg == sensitivity_bars(calibration, "a")


@pytest.mark.parametrize("layers", [[], [harm("a", 0.0), harm("b", 0.0)], [harm("a", None)]])
def test_nothing_to_show(calibration: Calibration, layers: list[Harm]) -> None:
    calibration["sensitivity"] = layers
    assert sensitivity_bars(calibration, "a") is None


def test_a_layer_without_a_number_and_one_without_harm(calibration: Calibration) -> None:
    calibration["sensitivity"] = [harm("ruin", None), harm("bad", 0.5), harm("none", 0.0)]
    calibration["float_layers"] = []
    assert {"ruin", "bad", "none", "INT8"} <= set(texts(sensitivity_bars(calibration, "a")))


def test_page(report: Report, calibration: Calibration) -> None:
    assert 'id="int8"' not in render_html(report)
    for row in report["artifacts"][:2]:
        row["calibration"] = calibration
    page = render_html(report)
    assert page.count("the most sensitive of 30 layers") == 2
    assert "features.1.&lt;conv&gt;" in page
    assert "features.1.<conv>" not in page
    # Two pictures of one kind share no id.
    assert "sensitivity-0-" in page
    assert "sensitivity-1-" in page
