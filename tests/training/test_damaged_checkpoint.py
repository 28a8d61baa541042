"""A checkpoint that may be anybody's: refused before any step, in one sentence, and never half loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError
from imf_deploy.settings import TeacherSettings
from imf_deploy.teaching.teacher import train_teacher
from imf_deploy.training import training

CONFIG = TeacherSettings(teacher="resnet8", epochs=2, batch_size=8, lr=0.02, device="cpu")
KEY = "imf-deploy-checkpoint"
Tensors = dict[str, torch.Tensor]
Change = Callable[[dict[str, Any], Tensors], object]


@pytest.fixture(scope="session")
def unfinished(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a training that was stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patch:
        save = training.Training.save

        def save_and_stop(self: Any, *arguments: Any) -> None:
            save(self, *arguments)
            raise KeyboardInterrupt

        patch.setattr(training.Training, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_teacher(data, CONFIG, folder / "t.safetensors")
    return folder / "t.checkpoint"


def rewrite(source: Path, target: Path, change: Change) -> None:
    with safe_open(source, framework="pt") as file:
        content = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(content, tensors)
    save_file(tensors, target, {KEY: json.dumps(content)})


def test_an_untouched_one_is_used(
    data: DataSet, unfinished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(unfinished, tmp_path / "t.checkpoint", lambda *_: None)
    with caplog.at_level("INFO", "imf_deploy"):
        train_teacher(data, CONFIG, tmp_path / "t.safetensors")
    assert "after epoch 1 of 2" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda c, t: c.update(epoch="1"),
        lambda c, t: c.update(epoch=-1),
        lambda c, t: c.update(epoch=2),
        lambda c, t: c.update(batch=-3),
        lambda c, t: c.update(history={}),
        lambda c, t: c.update(history=[{"epoch": [1]}]),
        lambda c, t: c.update(best="high"),
        lambda c, t: c.update(settings=None),
        lambda c, t: c.update(optimizer=[]),
        lambda c, t: c["optimizer"].update(state={"0": 1}),
        lambda c, t: c["optimizer"].update(state={"x": {}}),
        lambda c, t: c["optimizer"].update(param_groups=[]),
        lambda c, t: c["optimizer"]["param_groups"][0].update(momentum="0.9"),
        lambda c, t: c["optimizer"]["param_groups"][0].update(params=[0, 0]),
        lambda c, t: c.pop("scaler"),
        lambda c, t: t.pop("module/conv1.weight"),
        lambda c, t: t.update({"module/conv1.weight": torch.zeros(3)}),
        lambda c, t: t.update({"optimizer/99/momentum_buffer": torch.zeros(3)}),
        lambda c, t: t.update({"optimizer/x/momentum_buffer": torch.zeros(3)}),
        lambda c, t: t.update({"best/conv1.weight": torch.zeros(3)}),
        lambda c, t: t.update({"sums/cross_entropy": torch.zeros(3)}),
        lambda c, t: t.update({"generators/0": torch.zeros(3)}),
        lambda c, t: t.update({"generators/1": torch.zeros(5000, dtype=torch.uint8)}),
    ],
)
def test_a_damaged_one_is_refused(data: DataSet, unfinished: Path, tmp_path: Path, change: Change) -> None:
    rewrite(unfinished, tmp_path / "t.checkpoint", change)
    with pytest.raises(ImfDeployError, match=r"t.checkpoint is damaged. Delete it and run again"):
        train_teacher(data, CONFIG, tmp_path / "t.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["t.checkpoint"]
