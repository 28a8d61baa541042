"""Quantisation-aware training: goes on from a distilled file, to a file that is stripped like one."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.qat import describe_qat, qat
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet, open_data
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation.distill import Distilled, distill, load_distilled
from imf_deploy.errors import GateError, ImfDeployError, UsageError
from imf_deploy.export.stage import export
from imf_deploy.method.products import load_product
from imf_deploy.models import read_weights, save_weights, tensor_hashes
from imf_deploy.records.files import Artifact
from imf_deploy.records.making import Score, Tuned
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    Gate,
    QatSettings,
    QuantizeSettings,
    TeacherSettings,
    TrainingSettings,
)
from imf_deploy.settings.quantize import Target
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher, load_teacher, train_teacher
from imf_deploy.training import loop
from imf_deploy.training.device import choose_device
from imf_deploy.verification.stage import evaluate_product

GENTLE = QatSettings(epochs=2, lr_factor=0.1, device="cpu")


@pytest.fixture(scope="module")
def tuned(
    distilled_artifact: Artifact, data: DataSet, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    path = tmp_path_factory.mktemp("qat") / "distilled-qat.safetensors"
    return qat(load_distilled(distilled_artifact), data, teacher, GENTLE, path)


def test_it_is_another_distilled_file(tuned: Artifact, distilled_artifact: Artifact) -> None:
    before, after = read_weights(distilled_artifact.path), read_weights(tuned.path)
    assert list(after) == list(before)
    assert all(after[name].shape == tensor.shape for name, tensor in before.items())
    assert not torch.equal(after["student.conv1.0.weight"], before["student.conv1.0.weight"])
    assert torch.equal(after["student.conv1.1.running_mean"], before["student.conv1.1.running_mean"])
    assert (tuned.kind, tuned.parent) == ("distilled", distilled_artifact.sha256)
    assert load_artifact(tuned.path) == tuned
    assert sorted(p.name for p in tuned.path.parent.iterdir()) == [
        "distilled-qat.safetensors", "distilled-qat.safetensors.json",
    ]  # fmt: skip


def test_its_record(tuned: Artifact, distilled_artifact: Artifact, data: DataSet) -> None:
    known = distilled_artifact.history
    history = tuned.history
    assert history[: len(known)] == known
    assert [record["epoch"] for record in history] == [1, 2, 3]
    about = tuned.qat
    assert (about.epochs, about.calibration_images) == (2, len(data.train))
    assert about.lr == pytest.approx(0.1 * distilled_artifact.config["lr"])
    assert history[-1]["lr"] < about.lr
    assert about.rounded_after == pytest.approx(history[-1]["validation_accuracy"])
    heads = distilled_artifact.refitted
    plain = heads[0]
    assert about.float_before == pytest.approx(plain.after if plain.kept else plain.before)
    assert plain.before == pytest.approx(known[-1]["validation_accuracy"])
    # The student's own head was tuned itself; those of its exits are fitted again.
    assert [head.head for head in heads] == ["plain", "imf@1", "imf@2"]
    assert [head.head for head in tuned.refitted] == ["imf@1", "imf@2"]


def test_exits_are_fitted_again_to_what_was_tuned(
    tuned: Artifact, distilled_artifact: Artifact, data: DataSet
) -> None:
    before, after = read_weights(distilled_artifact.path), read_weights(tuned.path)
    kept = {head.head: head.kept for head in tuned.refitted}
    for k in (1, 2):
        name = f"imf.prefix_heads.{k - 1}.weight"
        assert (name in after) == kept[f"imf@{k}"]
        assert name not in after or name not in before or not torch.equal(before[name], after[name])
    assert any(kept.values())
    loaded = load_distilled(tuned).graph
    for record, k in zip(tuned.refitted, (0, 1), strict=True):
        accuracy = accuracy_of(
            lambda images, k=k: loaded(images)[1].attentive[k],  # type: ignore[misc]
            data.validation,
            data.preprocess,
            torch.device("cpu"),
        )
        assert accuracy == pytest.approx(record.after if record.kept else record.before)


def test_heads_that_were_not_fitted_are_not_fitted_now(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    config = DistillSettings(student="resnet8", epochs=1, batch_size=8, lr=0.02, device="cpu", refit=False)
    source = load_distilled(distill(data, teacher, config, tmp_path / "d.safetensors"))
    made = qat(source, data, teacher, GENTLE, tmp_path / "q.safetensors")
    assert made.refitted == []
    assert not any("prefix_heads" in name for name in read_weights(made.path))


def test_teacher_and_student_are_not_changed(
    distilled: Distilled, data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    def state(module: torch.nn.Module) -> list[str]:
        return tensor_hashes(module.state_dict().values())

    def hooks(module: torch.nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())

    before = [(state(m), hooks(m)) for m in (teacher.module, distilled.graph)]
    qat(distilled, data, teacher, GENTLE, tmp_path / "q.safetensors")
    assert [(state(m), hooks(m)) for m in (teacher.module, distilled.graph)] == before
    assert not teacher.module.training
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_the_strip_proof_holds(tuned: Artifact, images: torch.Tensor, tmp_path: Path) -> None:
    loaded = load_distilled(tuned)
    made = strip(loaded, ["plain", "imf@1"], tmp_path, images)
    assert all(artifact.strip.passed for artifact in made)
    assert made[0].strip.logits_identical
    assert {artifact.parent for artifact in made} == {tuned.sha256}


def test_it_is_taken_as_it_is(
    tuned: Artifact, distilled: Distilled, data: DataSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("imf_deploy.calib.qat.fit", never)
    assert qat(distilled, data, teacher, GENTLE, tuned.path) == tuned
    with pytest.raises(UsageError, match="made with other settings"):
        qat(distilled, data, teacher, replace(GENTLE, epochs=3), tuned.path)


def test_an_interrupted_one_ends_the_same(
    distilled: Distilled, data: DataSet, teacher: Teacher, tuned: Artifact, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "cut.safetensors"
    seen: list[str] = []

    def stop(message: str) -> None:
        seen.append(message)
        if "epoch 2 of 2" in message:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "say", stop)
        qat(distilled, data, teacher, GENTLE, path)
    assert [p.name for p in tmp_path.iterdir()] == ["cut.checkpoint"]
    torch.manual_seed(99)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "say", seen.append)
        made = qat(distilled, data, teacher, GENTLE, path)
    assert any("resuming after epoch 1 of 2" in message for message in seen)
    assert made.sha256 == tuned.sha256
    assert made.revised(path=tuned.path) == tuned
    assert not list(tmp_path.glob("*.checkpoint"))


def test_the_schedule_is_its_own(
    distilled: Distilled, data: DataSet, teacher: Teacher, tuned: Artifact, tmp_path: Path
) -> None:
    known = distilled.artifact.config
    long: dict[str, Any] = {"lr_schedule": "constant", "warmup": 0.5, "mixup": 0.4, "cutmix": 1.0}
    long |= {"ema": 0.9, "keep": "best", "body_lr_factor": 0.1}
    config = known | long
    source = replace(distilled, artifact=distilled.artifact.revised(config=config))
    made = qat(source, data, teacher, GENTLE, tmp_path / "q.safetensors")
    assert made.sha256 == tuned.sha256


def test_a_frozen_body_stays_frozen(
    distilled: Distilled, data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    config = distilled.artifact.config | {"freeze": "body"}
    source = replace(distilled, artifact=distilled.artifact.revised(config=config))
    path = qat(source, data, teacher, replace(GENTLE, epochs=1), tmp_path / "q.safetensors").path
    before, after = distilled.graph.state_dict(), read_weights(path)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert {name for name in changed if name.startswith("student.")} == {
        "student.fc.weight",
        "student.fc.bias",
    }
    assert any(name.startswith("imf.ifds.") for name in changed)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("lr_factor", 0), ("lr_factor", float("nan"))])
def test_settings_that_cannot_be_used(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {value} is out of range"):
        QatSettings(**{name: value})  # type: ignore[arg-type]


def test_what_it_cannot_go_on_from(
    distilled: Distilled, data: DataSet, teacher: Teacher, tuned: Artifact, tmp_path: Path
) -> None:
    path = tmp_path / "q.safetensors"
    with pytest.raises(UsageError, match="another teacher"):
        qat(distilled, data, replace(teacher, sha256="0" * 64), GENTLE, path)
    for change in ({"settings": (("transform_input", True),)}, {"stem_strides": (1, 1)}):
        with pytest.raises(UsageError, match=rf"built differently \(other {next(iter(change))}\)"):
            qat(distilled, data, replace(teacher, spec=replace(teacher.spec, **change)), GENTLE, path)
    with pytest.raises(UsageError, match="went through QAT before"):
        qat(load_distilled(tuned), data, teacher, GENTLE, path)
    with pytest.raises(UsageError, match="other preprocessing"):
        other = replace(data, preprocess=replace(data.preprocess, mean=(0.1, 0.1, 0.1)))
        qat(distilled, other, teacher, GENTLE, path)
    spoilt = replace(distilled, artifact=distilled.artifact.revised(config={"train": {"rate": 1}}))
    with pytest.raises(ImfDeployError, match="is damaged"):
        qat(spoilt, data, teacher, GENTLE, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("after", "sentences"), [(0.895, 1), (0.88, 2), (None, 1)])
def test_a_loss_in_float_is_reported(tuned: Artifact, after: float | None, sentences: int) -> None:
    about = Tuned(1, 0.1, 8, None if after is None else 0.9, after, 0.89)
    said = describe_qat(tuned.revised(qat=about))
    assert len(said) == sentences
    assert "including those in float" in said[0]
    assert (sentences == 2) == ("cost the float student 2.00 points" in said[-1])
    assert len(describe_qat(tuned.revised(qat=about), allowed=5)) == 1


def shades(folder: Path, counts: dict[str, int]) -> Path:
    """Write three pale colours under noise, so that classes lie close together."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for index in range(3):
            colour = np.full(3, 102.0)
            colour[index] += 54
            place = folder / split / f"class{index}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = colour + random.normal(0, 15, 3) + random.normal(0, 40, (16, 16, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place / f"{number:03}.png")
    return folder


def plant(student: torch.nn.Module, factor: float) -> None:
    """Make the weights of every second convolution hostile to 8 bits, for nothing in float.

    Its least important input channel is silenced, and the weight that reads it is made many times
    larger than all others of its output channel: they share a scale, and round to -1, 0 or 1.
    """
    for block in (student.layer1[0], student.layer2[0], student.layer3[0]):  # type: ignore[index]
        weight = block.conv2.weight
        silent = int((weight.abs().sum((0, 2, 3)) * block.bn1.weight.abs()).argmin())
        block.bn1.weight[silent], block.bn1.bias[silent] = 0, -1
        largest = weight.abs().amax((1, 2, 3))
        weight[:, silent] = 0
        weight[:, silent, 1, 1] = factor * largest


def test_int8_that_misses_its_gate_passes_it_after_tuning(tmp_path: Path) -> None:
    counts = {"train": 64, "val": 60, "test": 10}
    data = open_data(DataSettings(str(shades(tmp_path / "shades", counts))))
    training = TrainingSettings(epochs=3, batch_size=16, lr=0.02, device="cpu")
    weights = train_teacher(
        data, TeacherSettings(teacher="resnet14", **vars(training)), tmp_path / "teacher.safetensors"
    ).path
    teacher = load_teacher(weights, "", data, choose_device("cpu"))
    path = tmp_path / "distilled.safetensors"
    made = distill(
        data, teacher, DistillSettings(student="resnet8", **vars(replace(training, epochs=5))), path
    )
    loaded = load_distilled(made)
    sound = copy.deepcopy(loaded.graph.state_dict())

    def planted(factor: float) -> Distilled:
        loaded.graph.load_state_dict(sound)
        with torch.no_grad():
            plant(loaded.graph.student, factor)
        save_weights(path, loaded.graph.state_dict())
        return load_distilled(made.revised(sha256=f"{factor:064.0f}"))

    def int8(distilled: Distilled, target: Any) -> Score:
        folder = tmp_path / distilled.artifact.path.stem
        (artifact,) = strip(distilled, ["plain"], folder / "products", overwrite=True)
        product = evaluate_product(load_product(artifact.path), data)
        fp32 = export(product, ["fp32"], None, folder / "deploy", overwrite=True)[0]
        # Without repair: no layer may go back into float.
        config = QuantizeSettings(
            target=target, images=96, gate=Gate(5, 0.9), rank=False, max_float_layers=0, keep_int8=True
        )
        made = calibrate(fp32.path, data, config, folder / "deploy").calibration
        assert made
        assert made.float_layers == []
        return made.validation

    def declined(distilled: Distilled, target: Any) -> bool:
        try:
            int8(distilled, target)
        except GateError as error:
            return "is declined" in error.what
        return False

    targets = get_args(Target)
    # How large a fault is too large for rounding to make up for depends on the training.
    for factor in (1e4, 4e4, 1.6e5):
        harmed = planted(factor)
        if all(declined(harmed, target) for target in targets):
            break
    else:
        pytest.fail("no fault was too large")
    tuned = qat(harmed, data, teacher, QatSettings(4, 0.4, "cpu"), tmp_path / "tuned.safetensors")
    before = tuned.qat.float_before
    assert before > 0.9
    for target in targets:
        scores = int8(load_distilled(tuned), target)
        # Neither hidden by a loss in float, nor by agreement with a worse network.
        assert scores.accuracy >= before - 0.05
        assert scores.float_accuracy >= before - 0.05
