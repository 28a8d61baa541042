"""Files that release 0.2.0 wrote: they load, and strip to what they were, larger than the student or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.records.files import DistilledFile
from imf_deploy.stripping.stage import strip

FOLDER = Path(__file__).with_name("release_0_2_0")
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
"""Logits of each product for :func:`images`, and its multiply-accumulates, by the release's own code."""


@pytest.fixture
def images() -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)


def test_a_distilled_student_strips_to_what_it_was(images: torch.Tensor, tmp_path: Path) -> None:
    loaded = load_distilled(load_artifact(FOLDER / "distilled.safetensors", DistilledFile))
    names = choose_products(["all"], loaded.graph.imf.members)
    assert names == ["plain", "imf@1", "imf@2", "imf@3"]
    made = {artifact.product: artifact for artifact in strip(loaded, names, tmp_path)}
    for name, macs in EXPECTED["macs"].items():
        logits = load_product(made[name].path).module(images)
        assert torch.allclose(logits, torch.tensor(EXPECTED[name]), atol=1e-5)
        assert made[name].macs == macs
    assert made["imf@3"].macs > made["plain"].macs


def test_a_product_answers_as_it_did(images: torch.Tensor) -> None:
    product = load_product(FOLDER / "resnet8x0.25-imf@3.safetensors")
    assert torch.allclose(product.module(images), torch.tensor(EXPECTED["imf@3"]), atol=1e-5)
