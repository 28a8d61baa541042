"""Each variant of the branches differs from the library's in what it claims, and can be trained."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from imf_deploy.distillation import imf_task
from imf_deploy.method.losses import TeacherOutputs
from imf_deploy.models import Block, ModelSpec
from imf_deploy.settings import DistillSettings

TEACHER = Block("layer3", 12, 4)
NAMES = [
    "no-budget",
    "kd",
    "half-resolution",
    "more-room",
    "standardised",
    "dist",
    "deeper",
    "self",
    "projectors",
]


@pytest.fixture
def variants(_scripts: None) -> Iterator[Any]:
    module = importlib.import_module("imf_variants")
    yield module
    module.use(module.VARIANTS["budget"])


def step(variants: Any, name: str) -> tuple[dict[str, Tensor], list[Any], int]:
    """Return the terms of the loss after one backward pass, the shapes of the IFDs, and the members."""
    variant = variants.VARIANTS[name]
    variants.use(variant)
    torch.manual_seed(0)
    config = DistillSettings(student="resnet8", **variant.settings)
    graph, _, _ = imf_task.training_graph(ModelSpec("resnet8", 3, 16), [TEACHER], config)
    logits, branches = graph(torch.randn(4, 3, 16, 16))
    targets = [(0, sides) for sides in graph.imf.sides]
    taught = TeacherOutputs.of(torch.randn(4, 3), [torch.rand(4, 12, 4, 4)], targets)
    labels = torch.tensor([0, 1, 2, 0])
    task: Any = imf_task  # as the training calls them
    terms = task.imf_losses(logits, branches, targets, taught, labels, config)
    torch.stack(list(terms.values())).sum().backward()
    assert all(bool(term.isfinite()) for term in terms.values())
    assert graph.student.conv1.weight.grad is not None
    return {key: term.detach() for key, term in terms.items()}, graph.imf.shapes, graph.imf.members


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_changes_what_it_is_named_after(variants: Any, name: str) -> None:
    assert [*variants.VARIANTS] == ["budget", *NAMES]
    usual, shapes, _ = step(variants, "budget")
    terms, others, _ = step(variants, name)
    changed = {key for key in usual if not torch.equal(usual[key], terms[key])}
    same = {"standardised", "dist", "deeper", "self", "projectors", "kd"}
    assert (shapes == others) == (name in same)
    if name in ("standardised", "dist", "deeper"):
        assert changed == {"branch_kd", "prefix_kd"}
    elif name == "self":
        assert changed == {"prefix_kd"}
        assert terms["prefix_kd"] > usual["prefix_kd"]
    elif name == "kd":
        assert changed == {"branch_kd", "prefix_kd", "feature"}
        assert not any(terms[key] for key in changed)
    elif name == "half-resolution":
        assert {shape.side for shape in others} == {2}


def test_logits_are_standardised_and_correlated(variants: Any) -> None:
    target = torch.randn(6, 4)
    moved = (3 * target + 5)[None]
    assert variants.standardised(moved, target, 4.0) == pytest.approx(0, abs=1e-6)
    assert variants.correlated(target[None], target, 1.0) == pytest.approx(0, abs=1e-6)
    assert variants.correlated(-target[None], target, 1.0) > 1
