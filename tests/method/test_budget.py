"""No ``imf@k`` costs more than the student: counted on the products themselves, over families and sizes."""

from __future__ import annotations

import pytest
import torch
from one_stage import OneStage
from torch import nn

from imf_deploy.distillation.imf_task import attach_branches, plan_branches, student_trunk
from imf_deploy.method.budget import GROUP, BranchPlan
from imf_deploy.method.fold import fold
from imf_deploy.models import Block, Cost, ModelSpec, build_model, find_blocks, prefix_costs, truncate
from imf_deploy.settings import BranchSettings
from imf_deploy.verification.proof import count_macs, count_parameters

DESIGN = BranchSettings()
CASES = [
    # student, classes, image size, the teacher's channels and resolution
    ("resnet8", 10, 28, 128, 7),
    ("resnet8", 2, 32, 64, 8),
    ("resnet8x0.5", 1000, 32, 2048, 8),
    ("resnet20", 100, 32, 256, 8),
    ("cifar:wrn-16-1", 100, 32, 256, 8),
    ("cifar:vgg8", 100, 32, 256, 4),
    ("cifar:shufflenetv1", 100, 32, 256, 8),
    ("cifar:mobilenetv2", 100, 32, 256, 8),
    ("mobilenetv2", 10, 28, 128, 7),
    ("mobilenetv2", 1000, 64, 2048, 2),
    ("mobilenetv2x0.35", 10, 32, 64, 16),
    ("shufflenetv2", 1000, 64, 2048, 2),
    ("resnet18", 1000, 64, 2048, 2),
    ("resnet18", 10, 32, 64, 8),
    ("torchvision:efficientnet_b0", 1000, 64, 2048, 2),
    ("timm:regnetx_002", 100, 64, 1280, 2),
    ("timm:convnext_atto", 10, 64, 512, 2),
    ("timm:ghostnet_050", 1000, 64, 1280, 2),
    ("timm:vit_tiny_patch16_224", 10, 224, 384, 14),
]


def cost_of(module: nn.Module, size: int) -> Cost:
    return Cost(count_macs(module, size), count_parameters(module))


def planned(name: str, classes: int, size: int, channels: int, side: int) -> tuple[nn.Module, BranchPlan]:
    spec = ModelSpec.for_images(name, classes, size)
    student = build_model(spec).eval()
    return student, plan_branches(student, spec, [Block("teacher", channels, side)], DESIGN)


@pytest.mark.parametrize(("name", "classes", "size", "channels", "side"), CASES)
def test_every_member_is_within_the_student(
    name: str, classes: int, size: int, channels: int, side: int
) -> None:
    student, plan = planned(name, classes, size, channels, side)
    graph = attach_branches(student, plan, classes, DESIGN).eval()
    whole = cost_of(student, size)
    assert plan.members
    made = [cost_of(fold(student, graph.imf, plan.blocks, k), size) for k in range(1, plan.members + 1)]
    assert all(each.within(whole) for each in made), (whole, made)
    assert [each.macs for each in made] == sorted(each.macs for each in made)
    # The student itself is the library's.
    assert whole == cost_of(build_model(ModelSpec.for_images(name, classes, size)), size)
    # The last block helps to train the student, whatever is deployed.
    assert plan.blocks[-1] == find_blocks(student, size)[-1]
    assert len({block.name for block in plan.blocks}) == len(plan.blocks) >= plan.members


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2", "shufflenetv2", "timm:ghostnet_050"])
def test_the_room_is_used(name: str) -> None:
    student, plan = planned(name, 10, 32, 4096, 8)
    graph = attach_branches(student, plan, 10, DESIGN).eval()
    whole, last = cost_of(student, 32), cost_of(fold(student, graph.imf, plan.blocks, plan.members), 32)
    # A teacher of any width: IFDs are as wide as the student allows.
    assert max(last.macs / whole.macs, last.parameters / whole.parameters) > 0.9


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2", "timm:convnext_atto", "cifar:vgg8"])
def test_the_cost_up_to_a_block_is_that_of_the_cut_network(name: str) -> None:
    student = build_model(ModelSpec.for_images(name, 10, 32)).eval()
    whole, costs = prefix_costs(student, 32)
    assert whole == cost_of(student, 32)
    for block in find_blocks(student, 32):
        assert costs[block.name] == cost_of(truncate(student, [block]), 32)


def test_a_member_that_cannot_fit_is_left_out_and_its_branch_still_trains() -> None:
    student, spec = OneStage(), ModelSpec("OneStage", 3, 16)
    plan = plan_branches(student, spec, [Block("teacher", 64, 4)], DESIGN)
    assert ([block.name for block in plan.blocks], plan.members) == (["body"], 0)
    graph = attach_branches(student, plan, 3, DESIGN)
    _, branches = graph(torch.randn(2, 3, 16, 16))
    assert branches.attentive.shape == (1, 2, 3)


def test_blocks_that_are_named_by_hand_stay_where_they_are() -> None:
    spec = ModelSpec("resnet8", 10, 32, taps=("layer1", "layer3"))
    trunk = student_trunk(build_model(spec), spec, DESIGN)
    assert ([block.name for block in trunk.blocks], trunk.members) == (["layer1", "layer3"], 1)


def test_narrow_ifds_still_learn_the_teacher_s_channels() -> None:
    student, plan = planned("resnet8", 10, 32, 128, 8)
    assert all(GROUP <= shape.outputs < 128 for shape in plan.shapes)
    graph = attach_branches(student, plan, 10, DESIGN)
    _, branches = graph(torch.randn(2, 3, 32, 32))
    assert {features.shape[1] for features in branches.features} == {128}
    folded = fold(student, graph.imf, plan.blocks, plan.members)
    assert not any("projectors" in key for key in folded.state_dict())
    branches.features[-1].sum().backward()
    assert all(p.grad is not None for p in graph.imf.projectors[-1].parameters())


def test_without_a_budget_ifds_have_the_teacher_s_channels() -> None:
    spec = ModelSpec("resnet8", 10, 32)
    plan = plan_branches(build_model(spec), spec, [Block("t", 128, 8)], BranchSettings(budget=0))
    assert {shape.outputs for shape in plan.shapes} == {128}
    assert [block.name for block in plan.blocks] == ["layer1", "layer2", "layer3"]
    assert plan.members == 3
