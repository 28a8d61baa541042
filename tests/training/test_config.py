"""The learning rate over time, and settings that are refused."""

import itertools
import math

import pytest

from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.settings import TrainingSettings
from imf_deploy.training.device import choose_device


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    config = TrainingSettings(lr=0.5, warmup=0.1)
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 0.5
    assert rates[55] == pytest.approx(0.25)  # half way
    assert rates[99] == pytest.approx(0.25 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_the_rate_falls_in_steps_of_a_tenth_or_not_at_all() -> None:
    config = TrainingSettings(lr=0.5, warmup=0.1, lr_schedule="step", lr_drops=(0.5, 0.75))
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([0.5] * 40 + [0.05] * 25 + [0.005] * 25)
    constant = TrainingSettings(lr=0.5, warmup=0.1, lr_schedule="constant")
    assert [constant.learning_rate(step, 100) for step in range(100)] == pytest.approx(
        [*rates[:10], *[0.5] * 90]
    )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_trainings_have_a_rate(steps: int) -> None:
    rates = [TrainingSettings(lr=0.1).learning_rate(step, steps) for step in range(steps)]
    assert rates[0] == 0.1
    assert all(0 < rate <= 0.1 for rate in rates)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 0}, "out of range"),
        ({"batch_size": 1}, "out of range"),
        ({"lr": 0.0}, "out of range"),
        ({"lr": math.inf}, "out of range"),
        ({"lr": math.nan}, "out of range"),
        ({"seed": -1}, "out of range"),
        ({"train_precision": "fp8"}, "not known"),
        ({"warmup": 1.0}, "out of range"),
        ({"lr_drops": (0.5, 1.0)}, "out of range"),
        ({"shift": -1}, "out of range"),
        ({"weight_decay": -0.1}, "out of range"),
        ({"momentum": 1.0}, "out of range"),
        ({"label_smoothing": 1.0}, "out of range"),
        ({"mixup": -0.1}, "out of range"),
        ({"cutmix": math.nan}, "out of range"),
        ({"ema": 1.0}, "out of range"),
        ({"clip_grad": -1.0}, "out of range"),
        ({"grad_accumulation": 0}, "out of range"),
        ({"optimizer": "lion"}, "not known"),
        ({"lr_schedule": "linear"}, "not known"),
        ({"keep": "all"}, "not known"),
    ],
)
def test_what_no_training_can_use(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(options))}` .* is {named}"):
        TrainingSettings(**options)  # type: ignore[arg-type]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="`device` abacus is not a device"):
        choose_device("abacus")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
