"""Experiment trackers by name: what each is given, once per epoch, and those that are not there."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class

from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import MonitoringSettings, TeacherSettings
from imf_deploy.teaching.teacher import train_teacher
from imf_deploy.training.trackers import check_monitoring

CONFIG = TeacherSettings(teacher="resnet8", epochs=2, batch_size=8, lr=0.02, device="cpu")


class Notes(GeneralTracker):
    """A user's own tracker."""

    name = "notes"
    requires_logging_directory = False
    seen: dict[str, list[Any]] = {}  # noqa: RUF012, shared on purpose

    def __init__(self, run_name: str, **_options: Any) -> None:
        super().__init__()
        self.run = run_name
        self.seen[run_name] = []

    @property
    def tracker(self) -> Any:
        return self

    def log(self, values: dict[str, float], step: int | None = None, **_more: Any) -> None:
        self.seen[self.run].append((step, values))

    def finish(self) -> None:
        self.seen[self.run].append("finished")


@pytest.fixture
def notes() -> Iterator[dict[str, list[Any]]]:
    register_tracker_class(Notes)
    yield Notes.seen
    Notes.seen.clear()
    del LOGGER_TYPE_TO_CLASS["notes"]


def test_every_tracker_gets_every_epoch(data: DataSet, notes: dict[str, list[Any]], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitoring = MonitoringSettings(tensorboard=True, log_with=("notes", "tensorboard"))
    made = train_teacher(data, CONFIG, tmp_path / "teacher.safetensors", monitoring=monitoring)
    first, second, end = notes["teacher"]
    assert (first[0], second[0], end) == (1, 2, "finished")
    for (_, values), record in zip((first, second), made.history, strict=True):
        assert values == {
            "loss/cross_entropy": record["cross_entropy"],
            "lr": record["lr"],
            "validation_accuracy": record["validation_accuracy"],
        }
    events = EventAccumulator(str(tmp_path / "tensorboard" / "teacher")).Reload()
    assert {*events.Tags()["scalars"]} == {"loss/cross_entropy", "lr", "validation_accuracy"}
    assert [scalar.step for scalar in events.Scalars("lr")] == [1, 2]


def test_a_tracker_that_is_unknown_or_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no tracker 'sheet'.*Choose from: .*mlflow"):
        check_monitoring(MonitoringSettings(log_with=("sheet",)))
    assert "clearml" not in sys.modules
    with pytest.raises(ImfDeployError, match=r"clearml is not installed.*pip install clearml"):
        check_monitoring(MonitoringSettings(log_with=("tensorboard", "clearml")))
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(ImfDeployError, match=r"imf-deploy\[tensorboard\]"):
        check_monitoring(MonitoringSettings(tensorboard=True))
