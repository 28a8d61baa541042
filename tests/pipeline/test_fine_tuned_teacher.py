"""A main job whose given teacher has other classes: it is fine-tuned first."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import sha256_file
from imf_deploy.models import ModelSpec, build_model, save_weights
from imf_deploy.pipeline.estimate import estimate_run
from imf_deploy.pipeline.plan import given_teacher, make_plan, obtain_teacher, teacher_data
from imf_deploy.records.files import TeacherFile
from imf_deploy.run.folder import RunFolder
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    MonitoringSettings,
    RunSettings,
    RunTeacher,
    TrainingSettings,
)
from imf_deploy.settings.run import DeploySettings
from imf_deploy.settings.starts import TEACHER

QUIET = MonitoringSettings()


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> RunSettings:
    """A run whose teacher has seven classes."""
    torch.manual_seed(3)
    torch.save(build_model(ModelSpec("resnet8", 7, 16)).state_dict(), tmp_path / "seven.pt")
    training = TrainingSettings(epochs=1, batch_size=16, lr=0.02, device="cpu")
    return RunSettings(
        data=DataSettings(str(image_folder)),
        teacher=RunTeacher(
            teacher="resnet8",
            teacher_weights=str(tmp_path / "seven.pt"),
            epochs=2,
            batch_size=16,
            device="cpu",
        ),
        distill=DistillSettings(student="resnet8", **vars(training)),
        products=("plain",),
        export=DeploySettings(precisions=("fp32",), trt="off"),
    )


def test_it_is_trained_kept_and_used_again(
    config: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "imf_deploy")
    plan, folder = make_plan(config, QUIET), RunFolder(tmp_path / "run")
    data: DataSet = plan.data
    assert given_teacher(config, data) is None
    assert f"was trained for 7 classes, but {data.name} has 3 classes: it is fine-tuned first" in caplog.text
    taught = teacher_data(config, data)
    assert taught is data  # the weights do not state how images are prepared
    expected = estimate_run(config, plan, taught, folder, 0.0)
    assert expected is not None
    assert expected.parts["teacher"] > 0

    teacher, note = obtain_teacher(config, data, folder, QUIET, None, taught)
    assert note.startswith(
        f"The teacher was fine-tuned from {tmp_path / 'seven.pt'} in 2 epochs, and is kept"
    )
    record = load_artifact(folder.teacher, TeacherFile)
    assert teacher.sha256 == record.sha256
    assert record.starting_weights is not None
    assert record.starting_weights.classes == 7
    assert record.config["lr"] == TEACHER.defaults["lr"]

    written = folder.teacher.stat().st_mtime_ns
    again = estimate_run(config, plan, taught, folder, 0.0)
    assert again is not None
    assert "teacher" not in again.parts
    assert obtain_teacher(config, data, folder, QUIET, None, taught)[0].sha256 == record.sha256
    assert folder.teacher.stat().st_mtime_ns == written


def test_weights_that_cannot_be_trained_from_are_refused_first(config: RunSettings, tmp_path: Path) -> None:
    path = tmp_path / "seven.pt"
    state = torch.load(path, weights_only=True)
    state["conv1.weight"][0] = float("nan")
    torch.save(state, path)
    data = make_plan(config, QUIET).data
    with pytest.raises(ImfDeployError, match="holds numbers that are not finite"):
        teacher_data(config, data)
    other = replace(config, teacher=replace(config.teacher, teacher="resnet14"))
    with pytest.raises(ImfDeployError, match="does not belong to"):
        teacher_data(other, data)


def test_settings_of_the_distillation_are_refused_before_the_teacher_is_trained(config: RunSettings) -> None:
    kept = replace(
        config,
        data=replace(config.data, val_fraction=0.0),
        distill=replace(config.distill, keep="best"),
    )
    with pytest.raises(UsageError, match="`keep` best needs validation images"):
        make_plan(kept, QUIET)
    parts = replace(config, distill=replace(config.distill, grad_accumulation=16))
    with pytest.raises(UsageError, match="Raise `batch_size`: each part needs two images"):
        make_plan(parts, QUIET)
    data = make_plan(config, QUIET).data
    taught = replace(config, teacher=replace(config.teacher, grad_accumulation=16))
    with pytest.raises(UsageError, match="Raise `batch_size`: each part needs two images"):
        teacher_data(taught, data)


def test_it_sees_images_as_its_weights_expect(config: RunSettings, tmp_path: Path) -> None:
    data = make_plan(config, QUIET).data
    path = tmp_path / "seven.safetensors"
    preprocess = replace(data.preprocess, mean=(0.5,) * 3, std=(0.5,) * 3, labels=tuple("abcdefg"))
    network = build_model(ModelSpec("resnet8", 7, data.preprocess.size))
    save_weights(path, network.state_dict())
    TeacherFile(
        path=path,
        sha256=sha256_file(path),
        parent="",
        recipe="",
        model=ModelSpec("resnet8", 7, data.preprocess.size).to_dict(),
        preprocess=preprocess,
    ).save()
    own = replace(config, teacher=replace(config.teacher, teacher="", teacher_weights=str(path)))
    assert given_teacher(own, data) is None
    taught = teacher_data(own, data)
    assert taught.preprocess == replace(data.preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert torch.equal(taught.train.labels, data.train.labels)
    teacher, _ = obtain_teacher(own, data, RunFolder(tmp_path / "run"), QUIET, None, taught)
    assert load_artifact(tmp_path / "run" / "teacher.safetensors").preprocess == taught.preprocess
    # In front of it, the student's input becomes its own.
    pixels = data.test.fetch(torch.arange(len(data.test)))
    alone = build_model(teacher.spec).eval()
    alone.load_state_dict(teacher.module.state_dict())
    expected = alone(taught.preprocess.normalize(pixels))
    assert torch.allclose(teacher.logits(data.preprocess.normalize(pixels)), expected, atol=1e-4)
