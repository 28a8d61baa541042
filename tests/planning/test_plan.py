"""The price of students before a training: the same products as a training makes, and an honest choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imf_deploy.benchmark.latency import Latency
from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec
from imf_deploy.planning.candidates import find_candidates
from imf_deploy.planning.page import render_page
from imf_deploy.planning.products import noise_images, random_products
from imf_deploy.planning.result import PlanResult, PricedFile, PricedProduct
from imf_deploy.settings import DataSettings, PlanSettings
from imf_deploy.settings.compare import CostBudget

TINY = {"classes": 3, "image_sizes": (16,), "teacher": "resnet8"}


def priced(
    student: str, size: int, macs: int, ms: tuple[float, float], product: str = "plain"
) -> PricedProduct:
    files = tuple(
        PricedFile(precision, 1_000_000 // part, Latency((np.full(3, round(p50 * 1e6)),), 1))
        for precision, part, p50 in zip(("fp32", "int8"), (1, 4), ms, strict=True)
    )
    return PricedProduct(ModelSpec(student, 3, size), "resnet8", product, 2 * macs, macs, files)


RESULT = PlanResult(
    (
        priced("thin", 32, 1000, (0.5, 0.3)),
        priced("thin", 64, 4000, (2.0, 1.0)),
        priced("wide", 32, 3000, (1.5, 0.9)),
        priced("wide", 32, 2000, (0.8, 0.7), "imf@1"),
    ),
    CostBudget(),
    ("A note.",),
    1,
    0.0,
    {"cpu": "CPU 9000"},
)


def with_budget(**limits: float) -> PlanResult:
    return replace(RESULT, budget=CostBudget(**limits))


@pytest.mark.parametrize(
    ("limits", "chosen", "count"),
    [
        ({"latency_budget_ms": 1.0}, ("thin", 64, "plain", "int8"), 6),
        ({"latency_budget_ms": 0.95}, ("wide", 32, "plain", "int8"), 5),
        ({"latency_budget_ms": 0.4}, ("thin", 32, "plain", "int8"), 1),
        ({"size_budget_mb": 0.25}, ("thin", 64, "plain", "int8"), 4),
        ({"latency_budget_ms": 1.5, "size_budget_mb": 0.2}, None, 0),
        ({"latency_budget_ms": 0.1}, None, 0),
    ],
)
def test_the_file_within_the_budget_that_computes_most(
    limits: dict[str, float], chosen: tuple[Any, ...] | None, count: int
) -> None:
    result = with_budget(**limits)
    assert len(list(result.fitting())) == count
    assert result.missed is (chosen is None)
    if chosen is None:
        assert "thin at 32 px, plain int8 comes nearest" in result.sentence()
        assert result.command() == ""
        assert result.to_dict()["largest_within_budget"] is None
        return
    assert result.largest is not None
    product, file = result.largest
    assert (product.spec.name, product.spec.image_size, product.product, file.precision) == chosen
    assert f"{count} of 8 files fit" in result.sentence()
    assert f"--student {chosen[0]} --image-size {chosen[1]}" in result.command()


def test_without_a_budget_nothing_is_chosen() -> None:
    assert RESULT.largest is None
    assert not RESULT.missed
    assert "8 files of 3 candidates" in RESULT.sentence()


def test_the_page_shows_every_product_and_the_budget(browse: Callable[..., str], tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    page.write_text(render_page(with_budget(latency_budget_ms=0.95)))
    shown = browse(page, "--dump-dom")
    assert shown.count("<svg") == 2  # one for each image size
    assert "budget 0.95 ms" in shown
    assert "--student wide --image-size 32 --latency-budget-ms 0.95" in shown
    assert shown.count('<td class="n">1.00 MB</td>') == 4


def test_the_command_prices_what_a_training_makes(
    finished_run: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    result = cli(
        "plan", "--student", "resnet8", "--image-sizes", 16, "--classes", 3, "--teacher", "resnet8",
        "--threads", 1, "--plan-seconds", 0, "--latency-budget-ms", 1e-6,
        "--json", "plan.json", "--html", "plan.html",
    )  # fmt: skip
    assert result.code == 3, result.err
    assert "comes nearest" in result.err
    content = json.loads((tmp_path / "cwd" / "plan.json").read_text())
    assert "<svg" in (tmp_path / "cwd" / "plan.html").read_text()
    found = {product["product"]: product for product in content["products"]}
    assert list(found)[:2] == ["plain", "imf@1"]
    trained = json.loads((finished_run / "report.json").read_text())["artifacts"][0]
    assert (trained["product"], trained["precision"]) == ("imf@1", "fp32")
    assert {key: found["imf@1"][key] for key in ("parameters", "macs")} == {
        key: trained[key] for key in ("parameters", "macs")
    }
    single, int8 = found["imf@1"]["files"]
    assert single["size_bytes"] == pytest.approx(trained["size_bytes"], rel=0.05)
    assert int8["precision"] == "int8"
    assert all(file["latency_ms"]["p50"] > 0 for each in found.values() for file in each["files"])
    assert "| " not in result.out
    assert "imf@1" in result.out


def test_activations_of_random_weights_are_those_of_normalised_layers() -> None:
    """Vanishing activations would be denormal numbers, which are slow."""
    (candidate,) = find_candidates(PlanSettings(student=("mobilenetv2x0.35",), **TINY), DataSettings())
    images = noise_images(candidate)
    state = torch.get_rng_state()
    logits = {product.name: product.module(images) for product in random_products(candidate)}
    assert torch.equal(torch.get_rng_state(), state)
    assert candidate.products == len(logits) > 2
    for answers in logits.values():
        assert 1e-3 < answers.std().item() < 1e2


def test_classes_and_size_of_data_are_used(image_folder: Path) -> None:
    (candidate,) = find_candidates(
        PlanSettings(student=("resnet8",), widths=(0.5,), teacher="resnet8"), DataSettings(str(image_folder))
    )
    assert candidate.spec == ModelSpec("resnet8x0.5", 3, 16)
    assert candidate.preprocess.labels == ("class0", "class1", "class2")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"student": ("nonsense",)}, "unknown model 'nonsense'"),
        ({"student": ("resnet18",), "widths": (0.5,)}, "resnet18 has no width 0.5"),
        ({"student": ("resnet8",), "widths": (9.0,)}, "resnet8 has no width 9"),
        ({"student": ("hf:google/vit",)}, "cannot be a student"),
        ({"student": ("resnet8",), "image_sizes": ()}, "the image size is not known"),
        ({"student": ("resnet8",), "teacher": "nobody"}, "unknown model 'nobody'"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_measured(
    settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        find_candidates(PlanSettings(**TINY | settings), DataSettings())


def test_settings_that_mean_nothing() -> None:
    for bad in ({"student": ()}, {"widths": (0.0,)}, {"image_sizes": (4,)}, {"classes": -1}):
        with pytest.raises(UsageError):
            PlanSettings(**bad)
    with pytest.raises(UsageError, match="make 65 candidates"):
        PlanSettings(student=tuple("abcde"), image_sizes=tuple(range(16, 29)))
    with pytest.raises(UsageError, match="both"):
        find_candidates(PlanSettings(student=("resnet8",), **TINY), DataSettings(image_size=16))
