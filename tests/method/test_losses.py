"""The terms of the loss against formulas written out, and where their gradients go."""

import math
from typing import Any

import pytest
import torch

from imf_deploy.errors import UsageError
from imf_deploy.method.branches import BranchOutputs, ImfBranches, Taps, TrainingGraph
from imf_deploy.method.losses import TeacherOutputs, depth_weights, imf_losses
from imf_deploy.method.losses import feature_distance as distance_to
from imf_deploy.models import ModelSpec, build_model, find_blocks
from imf_deploy.settings import LossSettings
from imf_deploy.settings.distill import Distance
from imf_deploy.tasks.classification import CLASSIFICATION


def softmax(row: list[float], temperature: float) -> list[float]:
    raised = [math.exp(value / temperature) for value in row]
    return [value / sum(raised) for value in raised]


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """KL(teacher || student), summed over classes and averaged over images."""
    total = 0.0
    for mine, its in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax(mine, temperature), softmax(its, temperature)
        total += sum(pc * (math.log(pc) - math.log(qc)) for pc, qc in zip(p, q, strict=True))
    return total / len(student)


def feature_distance(features: torch.Tensor, its: torch.Tensor, kind: Distance = "power") -> torch.Tensor:
    side = features.shape[-1]
    teacher = TeacherOutputs.of(torch.zeros(len(its), 2), [its], [(0, side)])
    return distance_to(features, teacher.maps[0, side], teacher.powers[0, side], kind)


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, generator=generator) * 3, torch.randn(4, 3, generator=generator) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_by_explicit_sums(
    logits: tuple[torch.Tensor, torch.Tensor], temperature: float
) -> None:
    student, teacher = logits
    found = CLASSIFICATION.imitation(student, teacher, temperature).item()
    assert found == pytest.approx(divergence(student, teacher, temperature), rel=1e-5)
    assert found > 0
    assert CLASSIFICATION.imitation(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)
    # Not symmetric: the teacher is the reference.
    assert found != pytest.approx(divergence(teacher, student, temperature), rel=1e-3)


def test_the_divergence_of_several_branches_is_their_mean(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    student, teacher = logits
    stacked = torch.stack([student, teacher * 0.5, student + 1.5])
    expected = sum(divergence(branch, teacher, 4.0) for branch in stacked) / 3
    assert CLASSIFICATION.imitation(stacked, teacher, 4.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_feature_distance_is_relative_to_the_teacher_s_power() -> None:
    torch.manual_seed(0)
    mine, its = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    differences = [(a - b) ** 2 for a, b in zip(mine.flatten().tolist(), its.flatten().tolist(), strict=True)]
    power = sum(b * b for b in its.flatten().tolist())
    assert feature_distance(mine, its).item() == pytest.approx(sum(differences) / power, rel=1e-5)
    assert feature_distance(mine * 7, its * 7).item() == pytest.approx(
        feature_distance(mine, its).item(), rel=1e-5
    )
    assert feature_distance(its, its).item() == 0


def test_a_smaller_map_is_compared_with_the_averaged_teacher() -> None:
    its = torch.arange(16.0).view(1, 1, 4, 4)
    averaged = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    assert feature_distance(averaged, its).item() == 0


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_its_gradient_is_that_of_pytorch_and_lies_as_the_map_does(memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    mine = torch.randn(2, 3, 4, 4).to(memory_format=memory).requires_grad_()
    its = torch.randn(2, 3, 4, 4).to(memory_format=memory)
    ours = feature_distance(mine, its) * 3
    (gradient,) = torch.autograd.grad(ours, mine)
    theirs = torch.nn.functional.mse_loss(mine, its) / its.square().mean() * 3
    assert torch.allclose(ours, theirs, rtol=1e-6)
    assert torch.allclose(gradient, torch.autograd.grad(theirs, mine)[0], rtol=1e-6)
    assert gradient.is_contiguous(memory_format=memory)


KINDS: list[Distance] = ["power", "raw", "l2", "channel"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_of_zeros_gives_no_infinity(kind: Distance) -> None:
    zeros = torch.zeros(1, 2, 2, 2)
    assert math.isfinite(feature_distance(zeros, zeros, kind).item())
    assert math.isfinite(feature_distance(zeros + 1, zeros, kind).item())


def test_every_distance_by_hand() -> None:
    # Two images, two channels of 1 x 2 pixels; mean squares of the teacher's channels: 2.5 and 10.
    mine = torch.tensor([[[[1.0, 0.0]], [[2.0, 2.0]]], [[[0.0, 0.0]], [[0.0, 5.0]]]])
    its = torch.tensor([[[[1.0, 1.0]], [[4.0, 2.0]]], [[[2.0, 2.0]], [[4.0, 2.0]]]])
    squares = [[0 + 1, 4 + 0], [4 + 4, 16 + 9]]  # by image and channel

    def distance(kind: Distance) -> float:
        return distance_to(mine, its, torch.tensor([2.5, 10.0]), kind).item()

    assert distance("raw") == pytest.approx((1 + 4 + 8 + 25) / 8)
    assert distance("power") == pytest.approx((1 + 4 + 8 + 25) / 8 / 6.25)
    of_channels = sum(image[0] / 2.5 + image[1] / 10 for image in squares)
    assert distance("channel") == pytest.approx(of_channels / 8)
    # |a/|a| - b/|b||^2 is 2 - 2 cos(a, b), here of vectors (1, 0, 2, 2) and (1, 1, 4, 2), and so on.
    cosines = [13 / math.sqrt(9 * 22), 10 / math.sqrt(25 * 28)]
    assert distance("l2") == pytest.approx(sum(2 - 2 * cosine for cosine in cosines) / 2)


def test_which_distance_depends_on_whose_scale() -> None:
    torch.manual_seed(0)
    mine, its = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    by_channel = torch.tensor([1.0, 10.0, 0.5, 3.0])[:, None, None]
    for kind in KINDS:
        base = feature_distance(mine, its, kind).item()
        both = feature_distance(mine * 7, its * 7, kind).item()
        assert both == pytest.approx(base * (49 if kind == "raw" else 1), rel=1e-4)
        channels = feature_distance(mine * by_channel, its * by_channel, kind).item()
        assert (channels == pytest.approx(base, rel=1e-4)) == (kind == "channel")
    apart = feature_distance(its * 3, its, "l2").item()
    assert apart == pytest.approx(0, abs=1e-6)  # lengths do not count


def test_a_channel_that_is_all_but_silent_counts_no_more_than_ten_times() -> None:
    its = torch.tensor([0.0, 2.0])[None, :, None, None].expand(2, 2, 2, 2)  # mean squares 0 and 4
    mine = its + torch.tensor([1.0, 0.0])[:, None, None]
    # Half of the values are apart, by 1 of a scale of sqrt(4 / 2 / 100).
    assert feature_distance(mine, its, "channel").item() == pytest.approx(0.5 / (0.01 * 2))


def test_the_terms_and_their_weights(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    student, teacher = logits
    torch.manual_seed(1)
    first, last, target = torch.randn(3, 4, 2, 3, 3)
    outputs = BranchOutputs([first, last], torch.randn(2, 4, 3), torch.randn(2, 4, 3))
    labels = torch.tensor([0, 2, 1, 1])
    its = TeacherOutputs.of(teacher, [target], [(0, (3, 3))])
    terms = imf_losses(
        student, outputs, [(0, (3, 3))] * 2, its, labels, LossSettings(7.0, 5.0, 2.0, depth=3.0)
    )
    chances = [softmax(row, 1.0)[label] for row, label in zip(student.tolist(), labels.tolist(), strict=True)]
    expected = {
        "cross_entropy": -sum(map(math.log, chances)) / 4,
        "student_kd": 5 * divergence(student, teacher, 2.0),
        "branch_kd": 5 * sum(divergence(z, teacher, 2.0) for z in outputs.logits) / 2,
        "prefix_kd": 5 * sum(divergence(z, teacher, 2.0) for z in outputs.attentive) / 2,
        "feature": 7
        * (feature_distance(first, target).item() + 8 * feature_distance(last, target).item())
        / 9,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_weights_of_depths() -> None:
    assert depth_weights(3, 2.0) == pytest.approx([3 / 14, 12 / 14, 27 / 14])
    assert depth_weights(4, 0.0) == [1.0] * 4
    assert depth_weights(1, 2.0) == [1.0]


def test_gradients_reach_student_and_branches_and_never_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = build_model(ModelSpec("resnet8", 3, 16)).eval()  # its parameters would take gradients
    student = build_model(ModelSpec("resnet14", 3, 16))
    blocks, last = find_blocks(student, 16), find_blocks(teacher, 16)[-1]
    graph = TrainingGraph(student, blocks, ImfBranches(blocks, [last] * 3, 3))
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        teacher_logits, (teacher_features,) = Taps(teacher, [last]).run(images)
    own, outputs = graph(images)
    targets = [(0, side) for side in graph.imf.sides]
    its = TeacherOutputs.of(teacher_logits, [teacher_features], targets)
    sum(imf_losses(own, outputs, targets, its, labels, LossSettings()).values()).backward()
    trained = [(name, p) for name, p in graph.named_parameters() if p.requires_grad]
    without = [name for name, p in trained if p.grad is None or not p.grad.abs().sum() > 0]
    # A softmax over the one branch of the first prefix is constant, but later prefixes train all rows.
    assert without == []
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("term", ["branch_kd", "prefix_kd", "feature"])
def test_the_branch_terms_train_the_student_s_blocks_too(term: str) -> None:
    torch.manual_seed(0)
    student = build_model(ModelSpec("resnet8", 3, 16))
    blocks = find_blocks(student, 16)
    graph = TrainingGraph(student, blocks, ImfBranches(blocks, [blocks[-1]] * 3, 3))
    own, outputs = graph(torch.randn(4, 3, 16, 16))
    targets = [(0, side) for side in graph.imf.sides]
    its = TeacherOutputs.of(torch.randn(4, 3), [torch.rand(4, 64, 4, 4)], targets)
    terms = imf_losses(own, outputs, targets, its, torch.tensor([0, 1, 2, 0]), LossSettings())
    terms[term].backward()
    assert student.layer1[0].conv1.weight.grad.abs().sum() > 0
    assert student.fc.weight.grad is None
    assert (graph.imf.attention.grad is not None) == (term == "prefix_kd")


@pytest.mark.parametrize(
    ("weights", "option"),
    [
        *(((bad, 1, 1), "`alpha`") for bad in (-1, float("nan"), float("inf"), 1e30)),
        *(((1, bad, 1), "`beta`") for bad in (-1, float("nan"), float("inf"))),
        *(((1, 1, bad), "`temperature`") for bad in (0, -2, float("nan"), float("inf"))),
    ],
)
def test_impossible_weights(weights: tuple[float, float, float], option: str) -> None:
    with pytest.raises(UsageError, match=option):
        LossSettings(*weights)
    assert LossSettings(0, 0, 0.5).temperature == 0.5


@pytest.mark.parametrize(
    "fields", [{"branches": -1}, {"prefixes": float("nan")}, {"distance": "cosine"}, {"distance": ["raw"]}]
)
def test_impossible_terms(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(fields))}`"):
        LossSettings(**fields)
    LossSettings(branches=0, prefixes=0.5, distance="l2", depth=0)
    for depth in (-0.5, 8.5, float("nan")):
        with pytest.raises(UsageError, match="depth"):
            LossSettings(depth=depth)


def test_branches_and_prefixes_have_weights_of_their_own() -> None:
    torch.manual_seed(0)
    outputs = BranchOutputs([torch.rand(4, 2, 3, 3)], torch.randn(1, 4, 3), torch.randn(1, 4, 3))
    its = TeacherOutputs.of(torch.randn(4, 3), [torch.rand(4, 2, 3, 3)], [(0, (3, 3))])
    rest = torch.randn(4, 3), outputs, [(0, (3, 3))], its, torch.tensor([0, 1, 2, 0])
    usual = imf_losses(*rest, LossSettings(1, 1))
    other = imf_losses(*rest, LossSettings(1, 1, branches=0.5, prefixes=0.0))
    factors = {"branch_kd": 0.5, "prefix_kd": 0.0}
    assert {n: t.item() for n, t in other.items()} == pytest.approx(
        {n: t.item() * factors.get(n, 1.0) for n, t in usual.items()}
    )


def test_a_smaller_map_of_the_student_is_compared_with_the_averages() -> None:
    whole = torch.rand(4, 2, 6, 10)
    its = TeacherOutputs.of(torch.randn(4, 3), [whole], [(0, (3, 5)), (0, (6, 10))])
    assert torch.equal(its.maps[0, (6, 10)], whole)
    torch.testing.assert_close(its.maps[0, (3, 5)], torch.nn.functional.avg_pool2d(whole, 2))
    assert its.powers[0, (3, 5)].shape == (2,)
