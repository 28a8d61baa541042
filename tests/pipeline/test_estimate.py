from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill
from imf_deploy.export.choice import choose_precisions
from imf_deploy.export.stage import EnginePlan
from imf_deploy.method.products import choose_products
from imf_deploy.pipeline.estimate import Estimate, estimate_run
from imf_deploy.pipeline.plan import Plan
from imf_deploy.run.folder import RunFolder
from imf_deploy.settings import (
    BatchRange,
    DistillSettings,
    EngineSettings,
    RunSettings,
    RunTeacher,
    TrainingSettings,
)
from imf_deploy.settings.run import DeploySettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.checkpoint import steps_done

TINY = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cpu")
FP32 = DeploySettings(precisions=("fp32",))
CONFIG = RunSettings(
    teacher=RunTeacher(teacher="resnet8", **vars(TINY)),
    distill=DistillSettings(student="resnet8", **vars(TINY)),
)


def expected(
    config: RunSettings, data: DataSet, teacher: Teacher | None, folder: Path, bench_seconds: float = 1.0
) -> dict[str, float]:
    names = choose_products(("all",) if config.products == ("best",) else config.products, 3)
    engines = EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),)))
    plan = Plan(data, names, choose_precisions(config.export.precisions), engines, "", None)
    found = estimate_run(config, plan, teacher or data, RunFolder(folder), bench_seconds)
    assert found is not None
    return found.parts


def test_the_timing_changes_no_bit(data: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    config = CONFIG.distill
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    alone = distill(data, teacher, config, tmp_path / "alone.safetensors")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    expected(CONFIG, data, teacher, tmp_path)
    expected(CONFIG, data, None, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    after = teacher.module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not teacher.module.training
    assert not any(module._forward_hooks for module in teacher.module.modules())
    assert distill(data, teacher, config, tmp_path / "timed.safetensors").sha256 == alone.sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "alone.safetensors", "alone.safetensors.json", "timed.safetensors", "timed.safetensors.json"
    ]  # fmt: skip


def test_what_is_asked_for_is_counted(data: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    parts = expected(CONFIG, data, None, tmp_path)
    assert list(parts) == ["teacher", "distil", "refit", "files", "latencies", "report"]
    assert all(seconds > 0 for seconds in parts.values())
    given = expected(CONFIG, data, teacher, tmp_path)
    assert "teacher" not in given
    few = replace(CONFIG, distill=replace(CONFIG.distill, refit=False), export=FP32, products=("plain",))
    assert "refit" not in expected(few, data, teacher, tmp_path)
    longer = expected(CONFIG, data, teacher, tmp_path, bench_seconds=60)
    # Three products with three files each, and the products themselves.
    assert longer["latencies"] == pytest.approx(given["latencies"] + 59 * 12)
    tuned = expected(replace(CONFIG, qat_epochs=2), data, teacher, tmp_path)
    assert tuned["tune"] > 0


@pytest.fixture
def a_step_takes_an_hour(monkeypatch: pytest.MonkeyPatch) -> float:
    """So that whatever else is measured does not count."""
    monkeypatch.setattr("imf_deploy.pipeline.estimate.time_steps", lambda *_: 3600.0)
    return 3600.0


def test_a_long_training_is_a_multiple_of_a_short_one(
    data: DataSet, teacher: Teacher, tmp_path: Path, a_step_takes_an_hour: float
) -> None:
    long = replace(CONFIG, distill=replace(CONFIG.distill, epochs=100))
    steps = len(data.train) // TINY.batch_size
    found = expected(long, data, None, tmp_path)
    assert found["distil"] == pytest.approx(100 * steps * a_step_takes_an_hour, rel=1e-3)
    assert found["teacher"] == steps * a_step_takes_an_hour


def test_what_is_done_is_not_counted(
    data: DataSet,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    a_step_takes_an_hour: float,
) -> None:
    config = replace(CONFIG, distill=replace(CONFIG.distill, epochs=4))
    folder = RunFolder(tmp_path)

    def cut_off(epoch: dict[str, float], _epochs: int) -> str:
        if epoch["epoch"] == 4:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr("imf_deploy.training.loop._summary", cut_off)
    with pytest.raises(KeyboardInterrupt):
        distill(data, teacher, config.distill, folder.distilled)
    checkpoint = folder.distilled.with_suffix(".checkpoint")
    per_epoch = len(data.train) // TINY.batch_size
    assert steps_done(checkpoint, per_epoch) == 3 * per_epoch
    left = expected(config, data, teacher, tmp_path)
    assert left["distil"] == pytest.approx(per_epoch * a_step_takes_an_hour, rel=1e-3)
    monkeypatch.undo()
    distill(data, teacher, config.distill, folder.distilled)
    assert {"distil", "refit"}.isdisjoint(expected(config, data, teacher, tmp_path))


@pytest.mark.parametrize("content", [b"", b"garbage" * 9])
def test_a_checkpoint_that_cannot_be_read_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    assert steps_done(tmp_path / "none", 5) == 0
    (tmp_path / "a.checkpoint").write_bytes(content)
    assert steps_done(tmp_path / "a.checkpoint", 5) == 0


def test_the_sentence_names_what_matters() -> None:
    said = Estimate({"distil": 180.0, "refit": 2.0, "files": 40.0, "latencies": 20.0}).sentence()
    assert said == "This will take about 4 min on this machine (training 3 min, files 40 s, latencies 20 s)"
