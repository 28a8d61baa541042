"""The parts of captured training that can be tested without a GPU."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from imf_deploy.errors import UsageError
from imf_deploy.settings import TrainingSettings
from imf_deploy.settings.training import OptimizerName
from imf_deploy.training import capture
from imf_deploy.training.capture import why_eager
from imf_deploy.training.task import risen

DRAWS: dict[str, Callable[[], object]] = {
    "PyTorch": lambda: torch.rand(1),
    "Python": random.random,
    "NumPy": np.random.rand,
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_a_step_draws_on_the_host_is_seen(name: str) -> None:
    before = capture._host_generators()
    torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert not capture._changed(before, capture._host_generators())
    DRAWS[name]()
    assert capture._changed(before, capture._host_generators()) == [name]


def test_settings_that_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings()
    assert [why_eager(replace(settings, train_precision=p)) for p in ("fp32", "bf16")] == ["", ""]
    assert "fp16" in why_eager(replace(settings, train_precision="fp16"))
    monkeypatch.setattr(capture, "world_size", lambda: 2)
    assert "several processes" in why_eager(settings)


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.3, 1.0])
def test_a_factor_rises_alike_as_a_number_and_as_a_tensor(progress: float) -> None:
    tensor = risen(torch.tensor(progress), 0.25)
    assert isinstance(tensor, torch.Tensor)
    assert float(tensor) == pytest.approx(float(risen(progress, 0.25)))
    assert float(tensor) == pytest.approx(min(progress * 4, 1.0))


@pytest.mark.parametrize(("size", "lr"), [(0, 0.05), (64, 0.2), (512, 0.025)])
def test_the_rate_is_scaled_to_the_batch(size: int, lr: float) -> None:
    settings = TrainingSettings(batch_size=256, lr=0.05, lr_base_size=size, warmup=0.0)
    assert settings.largest_lr == settings.learning_rate(0, 10) == pytest.approx(lr)


@pytest.mark.parametrize(("size", "optimizer"), [(-1, "sgd"), (64, "adamw")])
def test_a_rate_that_cannot_be_scaled(size: int, optimizer: OptimizerName) -> None:
    with pytest.raises(UsageError, match="`lr_base_size`"):
        TrainingSettings(batch_size=256, optimizer=optimizer, lr_base_size=size)
