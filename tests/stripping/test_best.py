"""Which products are made by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import UsageError
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.stripping.best import Candidate, rate_products, select
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.stage import evaluate_product

PLAIN = Candidate("plain", 100, 0.90)


def imf(k: int, macs: int, accuracy: float) -> Candidate:
    return Candidate(f"imf@{k}", macs, accuracy)


@pytest.mark.parametrize(
    ("others", "smallest", "most_accurate"),
    [
        # The smallest that is near, not the most accurate; below half the most accurate, not the largest.
        ([imf(1, 10, 0.7), imf(2, 30, 0.85), imf(3, 45, 0.84), imf(4, 70, 0.895), imf(5, 110, 0.93)],
         "imf@4", "imf@2"),
        # One file does for both.
        ([imf(1, 20, 0.80), imf(2, 50, 0.90), imf(3, 80, 0.91)], "imf@2", "imf@2"),
        # Half the size is small, and a MAC more is not.
        ([imf(1, 50, 0.5), imf(2, 51, 0.6)], None, "imf@1"),
        ([imf(1, 51, 0.5), imf(2, 70, 0.6)], None, None),
        # Near, but no smaller than half.
        ([imf(1, 60, 0.89)], "imf@1", None),
        # Of equally accurate ones the smaller, of equally small ones the more accurate.
        ([imf(1, 20, 0.8), imf(2, 40, 0.8)], None, "imf@1"),
        ([imf(1, 60, 0.895), imf(2, 60, 0.899)], "imf@2", None),
        ([], None, None),
    ],
)  # fmt: skip
def test_the_choice(others: list[Candidate], smallest: str | None, most_accurate: str | None) -> None:
    chosen = select([PLAIN, *others])
    assert (chosen.smallest and chosen.smallest.product) == smallest
    assert (chosen.most_accurate and chosen.most_accurate.product) == most_accurate
    assert chosen.made == ["plain", *sorted({smallest, most_accurate} - {None}, key=str)]
    assert {*chosen.made} | {c.product for c in chosen.left_out} == {"plain", *(c.product for c in others)}
    said = chosen.sentence()
    assert ("no imf@k is within 1 point" in said) == (smallest is None)
    assert ("no imf@k has at most half" in said) == (most_accurate is None)


def test_exactly_one_point_below_plain_is_within_one_point() -> None:
    plain, other = replace(PLAIN, validation_accuracy=152 / 300), imf(1, 20, 149 / 300)
    assert 152 / 300 - 0.01 > 149 / 300  # in binary fractions
    assert select([plain, other]).smallest == other


def test_the_training_graph_is_as_accurate_as_the_products_that_come_from_it(
    distilled: Distilled, data: DataSet, tmp_path: Path
) -> None:
    names = choose_products(["all"], distilled.graph.imf.members)
    rated = rate_products(distilled, names, data, torch.device("cpu"))
    made = strip(distilled, names, tmp_path)
    assert [each.product for each in rated] == names
    for each, artifact in zip(rated, made, strict=True):
        record = evaluate_product(load_product(artifact.path), data).artifact
        assert each.validation_accuracy == record.validation_accuracy
        assert each.macs == record.macs


def test_best_needs_images_and_a_student() -> None:
    with pytest.raises(UsageError, match="distill-and-export") as caught:
        choose_products(["best"], 2)
    assert "plain, imf@1, imf@2" in str(caught.value.hint)
