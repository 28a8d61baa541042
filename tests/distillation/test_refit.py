"""Heads that are re-fitted after a distillation: their features, which are kept, and what is deployed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from imf_deploy.data import DataSet
from imf_deploy.data.batches import TrainLoader
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation import refit as module
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.distillation.heads import Head, OwnHead
from imf_deploy.distillation.refit import refit_heads, refit_student
from imf_deploy.method.products import load_product
from imf_deploy.models import build_model, read_weights
from imf_deploy.records.files import Artifact
from imf_deploy.records.making import Refitted
from imf_deploy.settings import DistillSettings, LossSettings, TrainingSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher

TRAIN = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cpu")
CPU = torch.device("cpu")


class Student(torch.nn.Module):
    """Features that are easy to fit, behind a head that knows nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
        self.fc = torch.nn.Linear(48, 3)
        torch.nn.init.zeros_(self.fc.weight)
        torch.nn.init.constant_(self.fc.bias, 0.1)
        self.images = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        logits: torch.Tensor = self.fc(self.pool(images))
        return logits


def without_validation(data: DataSet) -> DataSet:
    return replace(data, validation=data.validation.subset(torch.arange(0)))


def fitted(student: torch.nn.Module, data: DataSet, teacher: Teacher, **fields: Any) -> list[dict[str, Any]]:
    return refit_student(student, teacher.module, data, replace(TRAIN, **fields), LossSettings(), CPU)


def test_rare_classes_weigh_more_in_a_re_fit(data: DataSet, teacher: Teacher) -> None:
    rare = data.train.labels == 0
    rare[rare.nonzero()[:4]] = False
    uneven = replace(data, train=data.train.subset((~rare).nonzero().flatten()))
    answers = []
    for balance in ("none", "loss", "sampling"):
        student = Student()
        config = replace(TRAIN, balance=balance, augment="none")
        refit_student(student, teacher.module, uneven, config, LossSettings(beta=0), CPU)
        with torch.no_grad():
            images = uneven.preprocess.normalize(uneven.train.fetch(torch.arange(len(uneven.train))))
            answers.append(float(student(images).softmax(1)[:, 0].mean()))
    assert answers[0] < min(answers[1:])


def test_a_head_gets_better_and_says_so(data: DataSet, teacher: Teacher) -> None:
    student = Student()
    (record,) = fitted(student, data, teacher)
    assert (record.head, record.kept) == ("plain", True)
    assert record.before == pytest.approx(1 / 3, abs=0.34)
    assert record.after > record.before
    assert accuracy_of(student, data.validation, data.preprocess, CPU) == pytest.approx(record.after)
    assert not student.fc._forward_pre_hooks


def test_without_validation_images_what_was_fitted_is_kept(data: DataSet, teacher: Teacher) -> None:
    student = Student()
    (record,) = fitted(student, without_validation(data), teacher)
    assert record == Refitted("plain", None, None, kept=True)
    assert student.fc.weight.abs().sum() > 0


def test_a_head_that_gets_worse_stays(
    data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Student()
    fitted(student, data, teacher)
    before = student.fc.weight.detach().clone()

    def worse(_features: Any, _taught: Any, _labels: Any, start: Any, *_: Any) -> Any:
        return -start[0], -start[1]

    said: list[str] = []
    monkeypatch.setattr(module, "refit", worse)
    monkeypatch.setattr(module, "say", said.append)
    (record,) = fitted(student, data, teacher)
    assert not record.kept
    assert record.after < record.before
    assert torch.equal(student.fc.weight, before)
    assert "not kept" in said[0]


def test_an_equal_head_is_taken(data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student()
    monkeypatch.setattr(module, "refit", lambda *a: (a[3][0] * 2, a[3][1] * 2))
    (record,) = fitted(student, data, teacher)
    assert record.kept
    assert record.after == record.before
    assert torch.allclose(student.fc.bias, torch.full((3,), 0.2))


def test_a_network_without_a_head_is_left_alone(data: DataSet, teacher: Teacher) -> None:
    student = torch.nn.Sequential(Student(), torch.nn.Tanh())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert fitted(student, data, teacher) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert student[0].images == 2  # the two that look for the head


@pytest.mark.parametrize(("floats", "batches"), [(1, 1), (8 * 51, 1), (8 * 51 + 1, 2), (10**9, 10)])
def test_what_is_kept_is_bounded(
    data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch, floats: int, batches: int
) -> None:
    monkeypatch.setattr(module, "FLOATS", floats)
    sizes: list[torch.Size] = []
    right = module.refit

    def watched(features: torch.Tensor, taught: torch.Tensor, labels: torch.Tensor, *rest: Any) -> Any:
        sizes.extend((features.shape, taught.shape, labels.shape))
        return right(features, taught, labels, *rest)

    monkeypatch.setattr(module, "refit", watched)
    fitted(Student(), data, teacher)
    assert len(data.train) // 8 * 2 == 10  # two passes
    assert sizes == [(8 * batches, 48), (8 * batches, 3), (8 * batches,)]


def test_too_few_images_for_many_classes_leave_heads_alone(
    data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FLOATS", 1)
    monkeypatch.setattr(module, "BATCH", 8)
    caplog.set_level("INFO", "imf_deploy")
    assert fitted(Student(), data, teacher) == []
    assert "8 images fit into memory, too few for 3 classes" in caplog.text


def test_images_are_those_of_the_last_epochs_and_features_of_no_head_are_not_kept(
    data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    epoch = TrainLoader.epoch

    def watched(self: Any, number: int, *rest: Any) -> Any:
        asked.append(number)
        return epoch(self, number, *rest)

    monkeypatch.setattr(TrainLoader, "epoch", watched)
    monkeypatch.setattr(module, "FLOATS", 80 * 48)
    student = Student().eval()
    own = OwnHead(student, torch.zeros(2, 3, 16, 16))
    kept: list[int] = []

    def keep(_weight: torch.Tensor, _bias: torch.Tensor) -> None:
        kept.append(1)

    head = Head("imf@1", "own", (torch.zeros(3, 48), torch.zeros(3)), keep)

    def see(images: torch.Tensor) -> dict[str, torch.Tensor]:
        student(images)
        return {"own": own.features, "unused": torch.zeros(10**6)}

    refit_heads(
        [head], see, teacher.module, without_validation(data), replace(TRAIN, epochs=3), LossSettings(), CPU
    )
    assert asked == [1, 2]
    assert kept == [1]


@pytest.fixture(scope="module")
def made(data: DataSet, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """The same distillation with and without."""
    place = tmp_path_factory.mktemp("refit")
    config = DistillSettings(student="resnet8", **vars(TRAIN))
    return [
        distill(data, teacher, replace(config, refit=refit), place / f"{refit}.safetensors")
        for refit in (True, False)
    ]


def test_only_heads_differ(made: Sequence[Artifact]) -> None:
    fitted, plain = (read_weights(artifact.path) for artifact in made)
    changed = {
        name.rpartition(".")[0]
        for name in fitted
        if name not in plain or not torch.equal(fitted[name], plain[name])
    }
    kept = {record.head for record in made[0].refitted if record.kept}
    layers = {f"imf@{k + 1}": f"imf.prefix_heads.{k}" for k in range(3)} | {"plain": "student.fc"}
    assert changed == {layers[head] for head in kept}
    assert plain.keys() <= fitted.keys()
    assert kept
    assert made[1].refitted == []
    assert [record.head for record in made[0].refitted] == ["plain", "imf@1", "imf@2", "imf@3"]


def test_without_it_the_attentive_logits_are_deployed(
    made: Sequence[Artifact], images: torch.Tensor, tmp_path: Path
) -> None:
    loaded = load_distilled(made[1])
    assert not loaded.graph.imf.prefix_heads
    with torch.inference_mode():
        _, outputs = loaded.graph(images)
        for k in (1, 2, 3):
            expected = (loaded.graph.imf.weights(k)[:, None] * outputs.logits[:k]).sum(0)
            assert torch.equal(outputs.attentive[k - 1], expected)


def test_what_validation_said_is_what_the_files_have(
    made: Sequence[Artifact], data: DataSet, images: torch.Tensor, tmp_path: Path
) -> None:
    loaded = load_distilled(made[0])
    for k in (1, 2, 3):  # whichever validation kept
        if not loaded.graph.imf.prefix_head(k):
            loaded.graph.imf.add_prefix_head(k)
    products = strip(loaded, ["plain", "imf@1", "imf@2", "imf@3"], tmp_path, images)
    with torch.inference_mode():
        own, outputs = loaded.graph(images)
        pairs = zip(products, [own, *outputs.attentive[:3]], strict=True)
        for artifact, expected in pairs:
            proof = artifact.strip
            assert proof.passed, proof
            assert torch.allclose(load_product(artifact.path).module(images), expected, atol=1e-6, rtol=1e-6)
    removed = {row.module for row in products[2].strip.removed}
    assert "imf.prefix_heads.1" not in removed  # became the product's only layer
    assert {"imf.prefix_heads.0", "imf.prefix_heads.2", "imf.heads.0", "imf.attention"} <= removed
    network = build_model(loaded.spec)
    network.load_state_dict(load_file(products[0].path), strict=True)
    for record, product in zip(made[0].refitted, products, strict=True):
        if record.kept:
            deployed = load_product(product.path).module
            accuracy = accuracy_of(deployed, data.validation, data.preprocess, CPU)
            assert accuracy == pytest.approx(record.after)


def test_plain_of_torchvision_loads_strictly(
    distilled_artifact: Artifact, images: torch.Tensor, tmp_path: Path
) -> None:
    assert "plain" in {record.head for record in distilled_artifact.refitted}
    (artifact,) = strip(load_distilled(distilled_artifact), ["plain"], tmp_path, images)
    assert artifact.strip.logits_identical
    library = torchvision.models.shufflenet_v2_x1_0(num_classes=3)
    library.load_state_dict(load_file(artifact.path), strict=True)
