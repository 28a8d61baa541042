"""What of a captured training can be told without a GPU."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from imf_deploy.errors import UsageError
from imf_deploy.training import capture, config
from imf_deploy.training.capture import why_eager
from imf_deploy.training.config import TrainConfig
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
    settings = TrainConfig()
    assert [why_eager(replace(settings, precision=p)) for p in ("fp32", "bf16")] == ["", ""]
    assert "fp16" in why_eager(replace(settings, precision="fp16"))
    monkeypatch.setattr(capture, "world_size", lambda: 2)
    assert "several processes" in why_eager(settings)


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.3, 1.0])
def test_a_factor_rises_alike_as_a_number_and_as_a_tensor(progress: float) -> None:
    tensor = risen(torch.tensor(progress), 0.25)
    assert isinstance(tensor, torch.Tensor)
    assert float(tensor) == pytest.approx(float(risen(progress, 0.25)))
    assert float(tensor) == pytest.approx(min(progress * 4, 1.0))


def test_the_rate_is_scaled_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(config, "say", said.append)
    settings = TrainConfig(batch_size=256, lr=0.05)
    assert settings.scaled(0) is settings
    assert not said
    assert settings.scaled(64) == replace(settings, lr=0.2)
    assert settings.scaled(512).lr == pytest.approx(0.025)
    assert said == [
        "Learning rate 0.2: 0.05 for 64 images, and a batch has 256",
        "Learning rate 0.025: 0.05 for 512 images, and a batch has 256",
    ]


@pytest.mark.parametrize(
    ("size", "optimizer", "why"), [(-1, "sgd", "not a batch size"), (64, "adamw", "adamw")]
)
def test_a_rate_that_cannot_be_scaled(size: int, optimizer: config.OptimizerName, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        TrainConfig(batch_size=256, optimizer=optimizer).scaled(size)
