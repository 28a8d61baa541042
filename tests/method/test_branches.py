"""Attentive logits by hand, and a student that branches do not touch."""

import math
from typing import Any

import pytest
import torch

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.branches import ImfBranches, Taps, TrainingGraph, branch_features, refining_units
from imf_deploy.method.ifd import IntermediateFeatureDistiller
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks
from imf_deploy.settings import BranchSettings
from imf_deploy.settings.distill import Attention

BLOCKS = [Block("a", 4, 8), Block("b", 6, 4), Block("c", 8, 2)]
TEACHER = Block("t", 5, 4)
CLASSES = 3


@pytest.fixture
def branches() -> ImfBranches:
    torch.manual_seed(0)
    made = ImfBranches(BLOCKS, [TEACHER] * len(BLOCKS), CLASSES).eval()
    torch.nn.init.normal_(made.attention)
    return made


def taps(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, b.channels, b.size, b.size, generator=generator) for b in BLOCKS]


def test_one_parameter_per_class_and_branch_that_starts_equal() -> None:
    fresh = ImfBranches(BLOCKS, [TEACHER] * len(BLOCKS), CLASSES)
    assert fresh.attention.shape == (3, CLASSES)
    assert torch.equal(fresh.weights(3), torch.full((3, CLASSES), 1 / 3))
    assert isinstance(fresh.attention, torch.nn.Parameter)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_weights_sum_to_1_for_every_class(branches: ImfBranches, k: int) -> None:
    weights = branches.weights(k)
    assert weights.shape == (k, CLASSES)
    assert torch.allclose(weights.sum(0), torch.ones(CLASSES))
    assert (weights > 0).all()


@torch.no_grad()
def test_every_prefix_by_hand(branches: ImfBranches) -> None:
    outputs = branches(taps())
    assert outputs.logits.shape == outputs.attentive.shape == (3, 2, CLASSES)
    for k in (1, 2, 3):
        for image in range(2):
            for c in range(CLASSES):
                raised = [math.exp(branches.attention[i, c].item()) for i in range(k)]
                expected = sum(raised[i] / sum(raised) * outputs.logits[i, image, c].item() for i in range(k))
                assert outputs.attentive[k - 1, image, c].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("attention", "count"), [("class", 3 * CLASSES), ("branch", 3), ("mean", 0)])
def test_what_each_attention_learns(attention: Attention, count: int) -> None:
    torch.manual_seed(0)
    made = ImfBranches(BLOCKS, [TEACHER] * 3, CLASSES, BranchSettings(attention))
    learned = made.attention.numel() if made.attention.requires_grad else 0
    assert learned == count
    assert torch.allclose(made.weights(2), torch.full((2, CLASSES), 0.5))
    outputs = made(taps())
    outputs.attentive.square().sum().backward()
    assert (made.attention.grad is None) == (attention == "mean")
    if attention == "mean":
        for k in (1, 2, 3):
            assert torch.allclose(outputs.attentive[k - 1], outputs.logits[:k].mean(0), atol=1e-6)
    torch.nn.init.normal_(made.attention)
    same = made.weights(3)[:, :1].expand(3, CLASSES)
    assert torch.equal(made.weights(3), same) == (attention != "class")


@pytest.mark.parametrize(
    ("count", "branches", "expected"),
    [(4, 4, "abcd"), (3, 4, "abcc"), (4, 3, "bcd"), (4, 2, "bd"), (1, 3, "aaa"), (3, 1, "c"), (5, 3, "bde")],
)
def test_branches_learn_what_is_as_deep_as_they_are(count: int, branches: int, expected: str) -> None:
    its = [Block(name, 4, 4) for name in "abcde"[:count]]
    found = branch_features(BranchSettings(match="stages"), its, branches)
    assert "".join(block.name for block in found) == expected
    assert branch_features(BranchSettings(), its, branches) == [its[-1]] * branches
    # What was found is found again where nothing else is known, as when a file is loaded.
    assert branch_features(BranchSettings(match="stages"), found, branches) == found


@pytest.mark.parametrize(("name", "value"), [("attention", "classes"), ("match", "first")])
def test_designs_that_are_not_there(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {value} is not known"):
        BranchSettings(**{name: value})


@pytest.mark.parametrize("units", [-1, 101])
def test_refining_units_have_bounds(units: int) -> None:
    with pytest.raises(UsageError, match=f"`refining` {units} is out of range"):
        BranchSettings(refining=units)


@torch.no_grad()
def test_what_was_refitted_speaks_only_after_training(branches: ImfBranches) -> None:
    attentive = branches(taps()).attentive
    head = branches.add_prefix_head(2)
    outputs = branches(taps())
    pooled = [features.mean((2, 3)) for features in outputs.features]
    expected = torch.cat(pooled[:2], 1) @ head.weight.T + head.bias
    assert torch.allclose(outputs.attentive[1], expected, atol=1e-6)
    assert not torch.allclose(outputs.attentive[1], attentive[1], atol=1e-3)
    assert torch.equal(outputs.attentive[::2], attentive[::2])
    for k in (1, 2, 3):
        assert torch.allclose(branches.deployed(pooled[:k]), outputs.attentive[k - 1], atol=1e-6)
    trained = branches.train()(taps())
    assert torch.equal(trained.attentive[1], (branches.weights(2)[:, None] * trained.logits[:2]).sum(0))
    assert not any(parameter.requires_grad for parameter in branches.prefix_heads.parameters())


@torch.no_grad()
def test_a_branch_is_ifd_then_mean_then_linear(branches: ImfBranches) -> None:
    inputs = taps()
    outputs = branches(inputs)
    for i, tap in enumerate(inputs):
        features = branches.ifds[i](tap)
        assert torch.equal(outputs.features[i], features)
        head = branches.heads[i]
        expected = features.mean((2, 3)) @ head.weight.T + head.bias
        assert torch.allclose(outputs.logits[i], expected, atol=1e-6)
    assert [tuple(f.shape[1:]) for f in outputs.features] == [(5, 4, 4), (5, 4, 4), (5, 2, 2)]


def test_the_student_answers_the_same_with_and_without_branches() -> None:
    torch.manual_seed(0)
    student = build_model(ModelSpec("resnet8", CLASSES, 16)).eval()
    keys, images = list(student.state_dict()), torch.randn(3, 3, 16, 16)
    expected = student(images)
    blocks = find_blocks(student, 16)
    graph = TrainingGraph(student, blocks, ImfBranches(blocks, [TEACHER] * len(blocks), CLASSES)).eval()
    logits, _ = graph(images)
    assert torch.equal(logits, expected)
    assert list(student.state_dict()) == keys
    assert {name.split(".")[0] for name in graph.state_dict()} == {"student", "imf"}
    assert [name for name in graph.state_dict() if name.startswith("student.")] == [
        f"student.{k}" for k in keys
    ]


class Auxiliary(torch.nn.Module):
    """A network that returns more than logits in training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build_model(ModelSpec("resnet8", CLASSES, 16))

    def forward(self, x: torch.Tensor) -> object:
        return (self.net(x), x) if self.training else self.net(x)


def test_more_than_logits_in_training_is_reported() -> None:
    student = Auxiliary()
    blocks = find_blocks(student, 16)
    graph = TrainingGraph(student, blocks, ImfBranches(blocks, [TEACHER] * len(blocks), CLASSES))
    assert graph.eval()(torch.zeros(2, 3, 16, 16))[0].shape == (2, CLASSES)
    with pytest.raises(ImfDeployError, match="Auxiliary outputs tuple in training mode"):
        graph.train()(torch.zeros(2, 3, 16, 16))


def test_taps_leave_nothing_behind() -> None:
    model = build_model(ModelSpec("resnet8", CLASSES, 16)).eval()
    tapped = Taps(model, find_blocks(model, 16))
    logits, maps = tapped.run(torch.zeros(1, 3, 16, 16))
    assert [m.shape[1] for m in maps] == [16, 32, 64]
    assert logits.shape == (1, CLASSES)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_pooling_trains_as_it_infers(branches: ImfBranches, memory: torch.memory_format) -> None:
    maps = [tap.to(memory_format=memory).requires_grad_() for tap in taps()]
    trained = branches(maps)
    with torch.no_grad():
        assert torch.equal(branches(maps).logits, trained.logits)
    seen: list[torch.Tensor] = []
    for features in trained.features:
        features.register_hook(seen.append)
    trained.logits.square().sum().backward()
    for gradient, features in zip(reversed(seen), trained.features, strict=True):
        assert gradient.stride() == features.stride()
    ours = maps[0].grad
    again = [tap.requires_grad_() for tap in taps()]
    features = [ifd(tap) for ifd, tap in zip(branches.ifds, again, strict=True)]
    logits = [head(f.mean((2, 3))) for head, f in zip(branches.heads, features, strict=True)]
    torch.stack(logits).square().sum().backward()
    assert ours is not None
    assert torch.allclose(ours, again[0].grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("most", "branches", "units"),
    [(2, 4, [2, 2, 1, 0]), (2, 3, [2, 1, 0]), (2, 1, [0]), (0, 3, [0, 0, 0]), (5, 3, [2, 1, 0])],
)
def test_earlier_branches_have_more_units(most: int, branches: int, units: list[int]) -> None:
    design = BranchSettings(refining=most)
    assert refining_units(design, branches) == units
    made = ImfBranches(BLOCKS[:1] * branches, [TEACHER] * branches, CLASSES, design)
    longer = [len(ifd.layers) for ifd in made.ifds if isinstance(ifd, IntermediateFeatureDistiller)]
    assert [(length - longer[-1]) // 4 for length in longer] == units
