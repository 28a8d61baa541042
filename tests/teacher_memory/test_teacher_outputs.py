"""A frozen teacher sees each view of an image once, and nothing else changes."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import TrainLoader
from imf_deploy.distillation.distill import distill
from imf_deploy.errors import ImfDeployError
from imf_deploy.models import read_weights
from imf_deploy.records.files import Artifact
from imf_deploy.settings import DistillSettings, LossSettings, MonitoringSettings, TrainingSettings
from imf_deploy.teacher_memory import outputs as teacher_outputs
from imf_deploy.teacher_memory.outputs import OutputsFile
from imf_deploy.teaching.teacher import Teacher

CONFIG = TrainingSettings(epochs=4, batch_size=16, lr=0.01, device="cpu", augment="none")
NONE = MonitoringSettings(teacher_outputs_gb=0)
RECIPES: dict[str, dict[str, Any]] = {
    "one view": {},
    "flips": {"augment": "shift-flip", "shift": 0, "epochs": 5},
    "shifts": {"augment": "shift-flip", "shift": 1, "flip": False, "epochs": 11},
    "parts": {"grad_accumulation": 3},
    "bf16": {"train_precision": "bf16"},
}


@contextmanager
def watched(teacher: Teacher) -> Iterator[list[int]]:
    """Collect how many pictures the teacher sees each time."""
    counts: list[int] = []
    hook = teacher.module.register_forward_hook(lambda _m, inputs, _o: counts.append(len(inputs[0])))
    try:
        yield counts
    finally:
        hook.remove()


def run(
    data: DataSet, teacher: Teacher, path: Path, monitoring: MonitoringSettings | None = None, **fields: Any
) -> Artifact:
    # Other batches round otherwise, and long steps make that grow, on some processors past any tolerance.
    calm = LossSettings(alpha=2.0)
    config = DistillSettings(student="resnet8", refit=False, **vars(calm), **vars(replace(CONFIG, **fields)))
    return distill(
        data, teacher, config, path / "d.safetensors", monitoring=monitoring or MonitoringSettings()
    )


def distinct_views(data: DataSet, config: TrainingSettings) -> int:
    augment = Augment.of(config, data.preprocess.size)
    loader = TrainLoader(data.train, data.preprocess, config.batch_size, augment, config.seed)
    seen: set[int] = set()
    for epoch in range(config.epochs):
        for _, _, views in loader.viewed_epoch(epoch):
            assert views is not None
            seen.update(views.tolist())
    return len(seen)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_teacher_sees_each_view_once(
    data: DataSet, teacher: Teacher, tmp_path: Path, recipe: str
) -> None:
    fields = RECIPES[recipe]
    with watched(teacher) as counts:
        plain = run(data, teacher, tmp_path / "plain", NONE, **fields)
        every = sum(counts)
        counts.clear()
        made = run(data, teacher, tmp_path / "kept", **fields)
    config = replace(CONFIG, **fields)
    # Two batches of 16 an epoch; one picture finds the teacher's blocks, one tells the shapes.
    assert every == 32 * config.epochs + 1
    assert sum(counts) == distinct_views(data, config) + 2 < every
    tolerance = 0.05 if recipe == "bf16" else 1e-4
    for term, value in plain.history[-1].items():
        assert made.history[-1][term] == pytest.approx(value, rel=tolerance, abs=tolerance)
    if recipe != "bf16":
        a, b = read_weights(plain.path), read_weights(made.path)
        assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a)
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["d.safetensors", "d.safetensors.json"]


@pytest.mark.parametrize(
    "fields",
    [
        {"augment": "shift-flip", "shift": 0, "epochs": 2},  # two views, no fewer than epochs
        {"augment": "shift-flip"},
        {"augment": "crop-flip"},
        {"mixup": 0.2},
    ],
)
def test_nothing_is_kept_where_views_are_too_many(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(OutputsFile, "get", never)
    stale = tmp_path / "d.teacher-outputs"
    stale.write_bytes(b"of another training")
    run(data, teacher, tmp_path, **fields)
    assert not stale.exists()


class Cut(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("minutes", [0, 60])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_training_cut_off_within_a_write_ends_the_same(
    data: DataSet,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    parts: int,
) -> None:
    fields: dict[str, Any] = {**RECIPES["flips"], "epochs": 3, "grad_accumulation": parts}
    whole = run(data, teacher, tmp_path / "whole", **fields)
    write = OutputsFile._write
    # At every write in turn, some rows are whole, one is torn, and the rest is missing.
    for last in range(40):
        left = [last]

        def torn(
            self: OutputsFile, file: Any, views: torch.Tensor, rows: torch.Tensor, left: list[int] = left
        ) -> None:
            if left[0]:
                left[0] -= 1
                return write(self, file, views, rows)
            half = len(views) // 2
            write(self, file, views[:half], rows[:half])
            file.seek(self._start + int(views[half]) * self._width)
            file.write(rows[half].numpy().tobytes()[: self._width // 2])
            raise Cut

        place = tmp_path / f"cut-{last}"
        monitoring = MonitoringSettings(checkpoint_minutes=minutes)
        with monkeypatch.context() as patch:
            patch.setattr(OutputsFile, "_write", torn)
            try:
                made = run(data, teacher, place, monitoring, **fields)
            except Cut:
                assert (place / "d.teacher-outputs").is_file()
                made = None
        if made:
            break
        assert run(data, teacher, place, monitoring, **fields).sha256 == whole.sha256
    assert made is not None
    assert last >= 4
    assert made.sha256 == whole.sha256


def test_a_finished_row_is_not_asked_for_again_after_a_cut(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Cut):
        get = OutputsFile.get

        def stop(self: OutputsFile, views: torch.Tensor, step: int, *rest: Any) -> list[torch.Tensor]:
            if step == 3:
                raise Cut
            return get(self, views, step, *rest)

        patch.setattr(OutputsFile, "get", stop)
        run(data, teacher, tmp_path)
    known = distinct_views(data, replace(CONFIG, epochs=1))
    with watched(teacher) as counts:
        run(data, teacher, tmp_path)
    assert sum(counts) == distinct_views(data, CONFIG) - known + 2


def test_a_limit_is_kept_and_said(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(teacher_outputs, "say", said.append)
    plain = run(data, teacher, tmp_path / "plain", NONE)
    assert said == []
    small = run(data, teacher, tmp_path / "small", MonitoringSettings(teacher_outputs_gb=1e-4))
    assert small.sha256 == plain.sha256
    (line,) = said
    assert "more than `teacher_outputs_gb` allows" in line
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
        assert run(data, teacher, tmp_path / "full").sha256 == plain.sha256
    assert "0.00 GB are free" in said[1]
    with monkeypatch.context() as patch:

        def full(*_: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        patch.setattr(os, "posix_fallocate", full, raising=False)
        assert run(data, teacher, tmp_path / "none").sha256 == plain.sha256
    assert len(said) == 3
    assert not list(tmp_path.rglob("*.teacher-outputs"))


def ask(path: Path, step: int, key: str = "a", rows: int = 8) -> int:
    """Ask a file for all of its rows; return how many images the teacher then saw, except the first."""
    images = torch.arange(float(rows)).view(rows, 1, 1, 1).expand(rows, 3, 2, 2)
    calls: list[int] = []

    def teach(wanted: torch.Tensor) -> list[torch.Tensor]:
        calls.append(len(wanted))
        return [wanted[:, 0, 0].to(torch.bfloat16), wanted + torch.tensor([[0.0, 0.25], [0.5, 0.75]])]

    file = OutputsFile(path, key, rows, 1e6)
    found = file.get(torch.arange(rows), step, images, teach)
    file.close()
    seen = sum(calls) - 1
    assert all(torch.equal(a, b) for a, b in zip(found, teach(images), strict=True))
    assert found[0].dtype == torch.bfloat16
    assert found[1].is_contiguous(memory_format=torch.channels_last)
    return seen


def test_a_file_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.teacher-outputs"
    assert ask(path, 0) == 8
    assert ask(path, 1) == 0
    assert ask(path, 0) == 8  # what a step wrote counts after it
    assert ask(path, 1, "b") == 8
    assert ask(path, 2, "b") == 0
    assert ask(path, 3, "b", rows=6) == 6
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert ask(path, 4, "b", rows=6) == 6
    path.write_bytes(b"?" + content[1:])
    assert ask(path, 5, "b", rows=6) == 6
    assert ask(path, 6, "b", rows=6) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImfDeployError, match=r"cannot write .*teacher-outputs"):
        ask(tmp_path / "file" / "a.teacher-outputs", 0)
