"""Every design of the branches: trained, loaded, stripped; and a warm-up of all that branches say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.distillation.imf_task import ImfTask, training_graph
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.models import ModelSpec, find_blocks
from imf_deploy.records.files import Artifact
from imf_deploy.settings import BranchSettings, DistillSettings, LossSettings, TrainingSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher

TRAIN = TrainingSettings(epochs=1, batch_size=16, lr=0.02, device="cpu")
STUDENT = DistillSettings(student="resnet8", **vars(TRAIN), refit=False)
DESIGNS = {
    "per-branch": replace(STUDENT, attention="branch"),
    "averaged": replace(STUDENT, attention="mean"),
    "stages": replace(STUDENT, match="stages", refit=True),
    "l2": replace(STUDENT, distance="l2", branches=0.5),
    "channel": replace(STUDENT, distance="channel", prefixes=0),
    "warmed": replace(STUDENT, student="resnet8x0.5", distance="raw", branch_warmup=0.6),
}


@pytest.fixture(params=list(DESIGNS))
def made(
    request: pytest.FixtureRequest, data: DataSet, teacher: Teacher, tmp_path: Path
) -> tuple[str, Artifact]:
    """A student of each."""
    return request.param, distill(data, teacher, DESIGNS[request.param], tmp_path / "d.safetensors")


def test_it_is_loaded_and_stripped(made: tuple[str, Artifact], images: torch.Tensor, tmp_path: Path) -> None:
    name, artifact = made
    loaded = load_distilled(artifact)
    assert loaded.design == DESIGNS[name]
    sizes = [(block.channels, block.size) for block in loaded.teacher_features]
    assert sizes == ([(16, 16), (32, 8), (64, 4), (64, 4)] if name == "stages" else [(64, 4)] * 4)
    assert loaded.graph.imf.attention.shape == (4, 1 if name in ("per-branch", "averaged") else 3)
    if name == "averaged":
        assert not loaded.graph.imf.attention.any()
    products = strip(loaded, choose_products(["all"], 3), tmp_path / "products", images)
    assert all(product.strip.passed for product in products)
    with torch.inference_mode():
        _, outputs = loaded.graph(images)
        assert [tuple(f.shape[1:]) for f in outputs.features] == [(c, s, s) for c, s in sizes]
        for k, product in enumerate(products[1:]):
            module = load_product(product.path).module
            shapes = loaded.graph.imf.shapes[: k + 1]
            assert module.classifier.in_features == sum(shape.outputs for shape in shapes)
            assert torch.allclose(module(images), outputs.attentive[k], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", [{"attention": "classes"}, {"wings": 2}, {"refining": "2"}, {"lr": None}])
def test_a_record_of_another_design(distilled_artifact: Artifact, change: dict[str, Any]) -> None:
    odd = distilled_artifact.revised(config=distilled_artifact.config | change)
    with pytest.raises(ImfDeployError, match=r"the record of .* is damaged"):
        load_distilled(odd)


def test_the_teacher_s_map_of_each_branch_is_its_target(teacher: Teacher) -> None:
    its = find_blocks(teacher.module, 16)
    graph, _, features = training_graph(ModelSpec("resnet8", 3, 16), its, BranchSettings(match="stages"))
    assert features == [*its, its[-1]]
    task = ImfTask(graph, teacher, features, LossSettings())
    (target,) = task.targets([torch.randn(4, 3, 16, 16)])
    shapes = {key: tuple(map_.shape) for key, map_ in target.maps.items()}
    assert shapes == {
        (0, (16, 16)): (4, 16, 16, 16),
        (1, (8, 8)): (4, 32, 8, 8),
        (2, (4, 4)): (4, 64, 4, 4),
    }
    assert [len(power) for power in target.powers.values()] == [16, 32, 64]


@pytest.mark.parametrize(
    ("warmup", "progress", "factor"),
    [(0.5, 0.0, 0.0), (0.5, 0.25, 0.5), (0.5, 0.5, 1.0), (0.5, 0.9, 1.0), (0.0, 0.0, 1.0)],
)
def test_a_warm_up_of_the_branches(teacher: Teacher, warmup: float, progress: float, factor: float) -> None:
    torch.manual_seed(0)
    graph, _, features = training_graph(
        ModelSpec("resnet8", 3, 16), find_blocks(teacher.module, 16), BranchSettings()
    )
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    terms = []
    for length, part in ((0.0, 0.0), (warmup, progress)):
        task = ImfTask(graph.eval(), teacher, features, LossSettings(), branch_warmup=length)
        task.progress = part
        (target,) = task.targets([images])
        terms.append({n: t.item() for n, t in task.losses(graph, images, labels, target).items()})
    usual, warmed = terms
    its = {"branch_kd", "prefix_kd", "feature"}
    assert warmed == pytest.approx({n: t * (factor if n in its else 1.0) for n, t in usual.items()})
    assert all(usual.values())


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_a_warm_up_that_never_ends(warmup: float) -> None:
    with pytest.raises(UsageError, match=r"`branch_warmup` .* is out of range"):
        DistillSettings(branch_warmup=warmup)


def test_one_map_by_hand_for_branches_that_learn_several() -> None:
    with pytest.raises(UsageError, match="`teacher_tap` names one map"):
        DistillSettings(teacher_tap="layer3", match="stages")
    assert DistillSettings(teacher_tap="layer3").match == "last"
