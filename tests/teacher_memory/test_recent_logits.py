"""Re-fitting heads reuses the teacher's logits of the last batches of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill
from imf_deploy.distillation.refit import PASSES, first_refitted
from imf_deploy.models import read_weights
from imf_deploy.settings import DistillSettings, MonitoringSettings, TrainingSettings
from imf_deploy.teacher_memory.recent_logits import RecentLogits
from imf_deploy.teaching.teacher import Teacher

TRAIN = TrainingSettings(epochs=3, batch_size=8, lr=0.02, device="cpu")


def batch(seed: int) -> torch.Tensor:
    made = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return made.to(memory_format=torch.channels_last)


def test_a_whole_batch_is_found_once_by_its_pixels_in_any_memory_format() -> None:
    recent = RecentLogits(0.5, 1000)
    logits = torch.randn(4, 2)
    recent.keep(0.5, batch(0), logits)
    assert recent.take(batch(1)) is None
    assert recent.take(batch(0)[:3]) is None
    found = recent.take(batch(0).contiguous())
    assert found is not None
    assert torch.equal(found, logits)
    assert recent.take(batch(0)) is None


def test_early_batches_and_those_beyond_the_limit_are_not_kept() -> None:
    recent = RecentLogits(0.5, 8)
    recent.keep(0.49, batch(0), torch.zeros(4, 2))
    recent.keep(torch.tensor(0.9), batch(1), torch.zeros(4, 2))
    for seed in (2, 3):
        recent.keep(0.9, batch(seed), torch.zeros(4, 2))
    assert [recent.take(batch(seed)) is not None for seed in range(4)] == [False, False, True, False]


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 0), (3, 1), (100, 98)])
def test_heads_are_fitted_to_the_last_epochs(epochs: int, first: int) -> None:
    assert first_refitted(epochs) == first
    # Both sides are rounded alike, whatever the number of steps.
    steps = 140
    assert first * steps / (steps * epochs) >= first / epochs


def test_the_teacher_sees_each_batch_of_a_distillation_once(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    seen: list[int] = []
    hook = teacher.module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    config = DistillSettings(student="resnet8", **vars(TRAIN))
    try:
        distill(data, teacher, replace(config, refit=False), tmp_path / "a.safetensors")
        without = len(seen)
        seen.clear()
        made = distill(data, teacher, config, tmp_path / "b.safetensors")
    finally:
        hook.remove()
    assert made.refitted
    assert len(seen) == without
    assert len(data.train) // TRAIN.batch_size * TRAIN.epochs > PASSES


def test_the_teacher_is_asked_again_where_nothing_may_be_kept(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    seen: list[int] = []
    hook = teacher.module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    config = DistillSettings(student="resnet8", **vars(TRAIN))
    steps = len(data.train) // TRAIN.batch_size
    try:
        distill(
            data,
            teacher,
            config,
            tmp_path / "a.safetensors",
            monitoring=MonitoringSettings(teacher_outputs_gb=0.0),
        )
    finally:
        hook.remove()
    assert seen.count(TRAIN.batch_size) == steps * (TRAIN.epochs + PASSES)


def test_a_batch_that_was_not_kept_makes_no_difference(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillSettings(student="resnet8", **vars(TRAIN))
    kept = distill(data, teacher, config, tmp_path / "a.safetensors")
    monkeypatch.setattr(RecentLogits, "keep", lambda *_: None)
    asked = distill(data, teacher, config, tmp_path / "b.safetensors")
    ours, theirs = read_weights(kept.path), read_weights(asked.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
