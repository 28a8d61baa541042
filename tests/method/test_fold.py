"""The attentive logit folds into one linear layer, for every k and any attention."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imf_deploy.method.branches import ImfBranches, TrainingGraph
from imf_deploy.method.fold import fold, folded_classifier
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks

TEACHER = Block("t", 12, 4)
CLASSES = 5


def trained_graph(name: str) -> tuple[TrainingGraph, list[Block]]:
    """A student and branches whose weights, statistics and attention are all different."""
    torch.manual_seed(0)
    student = build_model(ModelSpec.for_images(name, CLASSES, 16))
    blocks = find_blocks(student, 16)
    graph = TrainingGraph(student, blocks, ImfBranches(blocks, [TEACHER] * len(blocks), CLASSES))
    torch.nn.init.normal_(graph.imf.attention, std=2.0)
    for _ in range(3):
        graph(torch.randn(8, 3, 16, 16))  # moves the statistics of batch norm
    return graph.eval(), blocks


@pytest.mark.parametrize("name", ["resnet8", "shufflenetv2", "resnet18"])
@torch.no_grad()
def test_folded_equals_unfolded_for_every_k(name: str) -> None:
    graph, blocks = trained_graph(name)
    images = torch.randn(6, 3, 16, 16)
    _, outputs = graph(images)
    wide = copy.deepcopy(graph).double()
    # The copy's hooks still belong to the original, so the student is tapped anew.
    wide = TrainingGraph(wide.student, blocks, wide.imf).eval()
    _, exact = wide(images.double())
    for k in range(1, len(blocks) + 1):
        folded = fold(graph.student, graph.imf, blocks, k)
        logits, expected = folded(images), outputs.attentive[k - 1]
        assert (logits - expected).abs().max() <= 1e-5 * max(float(expected.abs().max()), 1.0)
        # In double precision what remains is the rounding of the folded weights to float32.
        narrow = folded.double()(images.double())
        reference = exact.attentive[k - 1]
        assert (narrow - reference).abs().max() <= 1e-6 * max(float(reference.abs().max()), 1.0)
        graph.float()  # fold shares the student's parameters, which double() widened


@torch.no_grad()
def test_the_folded_layer_in_double_precision() -> None:
    torch.manual_seed(0)
    blocks = [Block("a", 4, 4), Block("b", 6, 4), Block("c", 8, 4)]
    branches = ImfBranches(blocks, [TEACHER] * len(blocks), CLASSES).double().eval()
    torch.nn.init.normal_(branches.attention)
    taps = [torch.randn(3, b.channels, 4, 4, dtype=torch.float64) for b in blocks]
    outputs = branches(taps)
    pooled = [features.mean((2, 3)) for features in outputs.features]
    for k in (1, 2, 3):
        weights = branches.attention[:k].softmax(0)
        parts = [weights[i][:, None] * branches.heads[i].weight for i in range(k)]
        bias = sum(weights[i] * branches.heads[i].bias for i in range(k))
        logits = torch.cat(pooled[:k], 1) @ torch.cat(parts, 1).T + bias
        assert torch.allclose(logits, outputs.attentive[k - 1], rtol=0, atol=1e-14)
        weight, folded_bias = folded_classifier(branches, k)
        assert torch.equal(weight, torch.cat(parts, 1).float())
        assert torch.equal(folded_bias, bias.float())


@torch.no_grad()
def test_folding_changes_neither_student_nor_branches() -> None:
    graph, blocks = trained_graph("resnet8")
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    fold(graph.student, graph.imf, blocks, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.state_dict().items())


def test_nothing_of_the_attention_and_of_later_blocks_is_left() -> None:
    graph, blocks = trained_graph("resnet8")
    names = list(fold(graph.student, graph.imf, blocks, 2).state_dict())
    assert not any("attention" in name or "heads" in name for name in names)
    assert not any("layer3" in name or ".fc." in name or name.startswith("ifds.2") for name in names)
    assert {name.split(".")[0] for name in names} == {"trunk", "ifds", "classifier"}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    classes=st.integers(1, 6),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1 << 30),
)
@torch.no_grad()
def test_the_folded_layer_is_the_attentive_logit_for_any_features(
    widths: list[int], classes: int, spread: float, seed: int
) -> None:
    torch.manual_seed(seed)
    blocks = [Block(f"b{index}", 2, 4) for index in range(len(widths))]
    branches = ImfBranches(blocks, [Block("t", width, 4) for width in widths], classes)
    branches.attention.normal_(std=spread) if spread else branches.attention.zero_()
    pooled = [torch.randn(3, head.in_features).double() for head in branches.heads]
    for k in range(1, len(widths) + 1):
        attention = branches.attention[:k].double().softmax(0)
        expected = sum(
            attention[i] * torch.nn.functional.linear(pooled[i], head.weight.double(), head.bias.double())
            for i, head in enumerate(branches.heads[:k])
        )
        weight, bias = folded_classifier(branches, k)
        folded = torch.nn.functional.linear(torch.cat(pooled[:k], 1), weight.double(), bias.double())
        torch.testing.assert_close(folded, expected, rtol=1e-5, atol=1e-5)
