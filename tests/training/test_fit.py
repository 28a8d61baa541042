"""What training does, and what it leaves alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import Distilled, distill, load_distilled, save_distilled
from imf_deploy.errors import ImfDeployError
from imf_deploy.models import Block, ModelSpec, build_model, not_finite
from imf_deploy.records.files import Artifact, sidecar_path
from imf_deploy.settings import DistillSettings, GivenTeacher, TrainingSettings
from imf_deploy.teaching.teacher import Teacher, find_teacher, load_teacher
from imf_deploy.training.checkpoint import load_checkpoint
from imf_deploy.training.loop import fit
from imf_deploy.training.supervised import Supervised, train_classifier

TERMS = {"cross_entropy", "student_kd", "branch_kd", "prefix_kd", "feature"}


def test_it_learns(data: DataSet, tmp_path: Path) -> None:
    config = TrainingSettings(epochs=8, batch_size=8, lr=0.05, device="cpu")
    made = train_classifier(ModelSpec("resnet8", 3, 16), data, config, tmp_path / "t.safetensors", "teacher")
    assert made.accuracy >= 0.9
    losses = [record["cross_entropy"] for record in made.history]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_is_not_changed(data: DataSet, teacher: Teacher, tmp_path: Path, precision: str) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    train = TrainingSettings(epochs=2, batch_size=16, lr=0.05, device="cpu", train_precision=precision)  # type: ignore[arg-type]
    made = distill(
        data, teacher, DistillSettings(student="resnet8", **vars(train)), tmp_path / "d.safetensors"
    )
    after = teacher.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(module.training for module in teacher.module.modules())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    assert not any(module._forward_hooks for module in teacher.module.modules())
    # The student, in contrast, was trained: statistics and attention moved.
    graph = load_distilled(made).graph
    assert graph.imf.attention.abs().sum() > 0
    assert int(graph.student.bn1.num_batches_tracked) == 2 * 2


def test_how_the_teacher_learned_is_read_from_its_sidecar(teacher: Teacher, teacher_file: Path) -> None:
    (epoch,) = teacher.history
    assert epoch == load_artifact(teacher_file).history[0]
    assert {"epoch", "lr", "cross_entropy", "validation_accuracy"} == epoch.keys()


def teacher_with(history: Any, teacher_file: Path, folder: Path) -> Path:
    path = folder / "t.safetensors"
    shutil.copy(teacher_file, path)
    record = json.loads(sidecar_path(teacher_file).read_text())
    record["history"] = history
    sidecar_path(path).write_text(json.dumps(record))
    return path


def test_a_history_without_the_numbers_of_epochs_is_none(
    data: DataSet, teacher_file: Path, tmp_path: Path
) -> None:
    path = teacher_with([{"lr": 0.1}], teacher_file, tmp_path)
    assert load_teacher(path, "", data, torch.device("cpu")).history == []


@pytest.mark.parametrize("history", ["text", [1], [{"epoch": 1, "lr": "<b>"}], {"epoch": 1}, None])
def test_a_damaged_history_is_refused(
    data: DataSet, teacher_file: Path, tmp_path: Path, history: Any
) -> None:
    path = teacher_with(history, teacher_file, tmp_path)
    with pytest.raises(ImfDeployError, match=r"t\.safetensors\.json is damaged \(history"):
        load_teacher(path, "", data, torch.device("cpu"))


def test_the_record_of_a_distillation(data: DataSet, teacher: Teacher, distilled_artifact: Artifact) -> None:
    (epoch,) = distilled_artifact.history
    assert epoch.keys() == TERMS | {"epoch", "lr", "validation_accuracy"}
    assert 0 <= epoch["validation_accuracy"] <= 1
    assert [block.name for block in distilled_artifact.blocks] == ["stage2", "stage3"]
    assert distilled_artifact.teacher_features == [Block("layer3", 64, 4)] * 2
    assert distilled_artifact.parent == teacher.sha256
    assert distilled_artifact.preprocess == data.preprocess


def test_training_reads_no_test_picture(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    class Forbidden:
        workers = 0
        labels = data.test.source.labels

        def fetch(self, positions: torch.Tensor) -> torch.Tensor:
            raise AssertionError("a test picture was read")

    guarded = dataclasses.replace(data, test=dataclasses.replace(data.test, source=Forbidden()))
    config = DistillSettings(student="resnet8", epochs=1, batch_size=16, device="cpu")
    distill(guarded, teacher, config, tmp_path / "d.safetensors")


def test_a_loss_that_is_not_finite_stops_and_keeps_earlier_epochs(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingSettings(epochs=2, batch_size=4, lr=1e18, warmup=0.0, device="cpu")
    path = tmp_path / "t.safetensors"
    with pytest.raises(ImfDeployError, match=r"the loss became (nan|inf) at step \d+ \(epoch") as caught:
        train_classifier(ModelSpec("resnet8", 3, 16), data, config, path, "teacher")
    assert "`lr`" in caught.value.hint
    assert caught.value.exit_code == 1
    assert {p.name for p in tmp_path.iterdir()} <= {"t.checkpoint"}


class Overflowing(torch.nn.Module):
    """Its loss stays finite; a statistic does not, from the second epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = build_model(ModelSpec("resnet8", 3, 16))
        self.register_buffer("running", torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.running *= 1e16  # two steps an epoch, and float32 ends at 3e38
        logits: torch.Tensor = self.classifier(images)
        return logits


def test_a_statistic_that_is_not_finite_stops_and_keeps_the_checkpoint(data: DataSet, tmp_path: Path) -> None:
    config = TrainingSettings(epochs=3, batch_size=16, lr=0.01, device="cpu")
    task, path = Supervised(Overflowing(), 0.0), tmp_path / "t.checkpoint"
    with pytest.raises(ImfDeployError, match=r"1 of \d+ .* not finite after epoch 2: running") as caught:
        fit(task, data, config, "t", path, {})
    assert "`lr`" in caught.value.hint
    kept = load_checkpoint(path, {}, overwrite=False)
    assert kept is not None
    assert kept.progress.epoch == 1
    assert not not_finite(kept.tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_distilled_file_holds_what_is_not_finite(
    distilled: Distilled, tmp_path: Path, value: float
) -> None:
    distilled.graph.student.get_buffer("conv1.1.running_var")[3] = value
    with pytest.raises(ImfDeployError, match=r"not finite at the end: student\.conv1\.1\.running_var"):
        save_distilled(tmp_path / "d.safetensors", distilled.graph, tmp_path / "d.checkpoint")
    assert not list(tmp_path.iterdir())


def test_a_teacher_of_other_classes(data: DataSet, teacher_file: Path) -> None:
    import dataclasses

    labels = (*data.preprocess.labels, "another")
    other = dataclasses.replace(data, preprocess=dataclasses.replace(data.preprocess, labels=labels))
    with pytest.raises(ImfDeployError, match="was trained for 3 classes, but colours has 4 classes"):
        find_teacher(GivenTeacher(teacher_weights=str(teacher_file)), other, "cpu")
    preprocess = dataclasses.replace(data.preprocess, labels=("a", "b", "c"))
    other = dataclasses.replace(data, preprocess=preprocess)
    with pytest.raises(ImfDeployError, match="was trained for other classes"):
        find_teacher(GivenTeacher(teacher_weights=str(teacher_file)), other, "cpu")


def test_a_teacher_of_another_architecture(data: DataSet, teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ImfDeployError, match="holds a resnet8, not a resnet14") as caught:
        find_teacher(GivenTeacher(teacher="resnet14", teacher_weights=str(teacher_file)), data, "cpu")
    assert "`teacher` resnet8" in caught.value.hint
    bare = tmp_path / "bare.safetensors"  # without its sidecar
    bare.write_bytes(teacher_file.read_bytes())
    with pytest.raises(ImfDeployError, match=r"does not belong to CifarResNet \(missing: layer1\.1"):
        find_teacher(GivenTeacher(teacher="resnet14", teacher_weights=str(bare)), data, "cpu")
    found = find_teacher(GivenTeacher(teacher="resnet8", teacher_weights=str(bare)), data, "cpu")
    assert found.spec.name == "resnet8"
