"""The learning rate over time, and settings that are refused."""

import itertools
import math

import pytest

from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.training.config import TrainConfig, choose_device


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    config = TrainConfig(lr=0.5, warmup=0.1)
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 0.5
    assert rates[55] == pytest.approx(0.25)  # half way
    assert rates[99] == pytest.approx(0.25 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_the_rate_falls_in_steps_of_a_tenth_or_not_at_all() -> None:
    config = TrainConfig(lr=0.5, warmup=0.1, schedule="step", drops=(0.5, 0.75))
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([0.5] * 40 + [0.05] * 25 + [0.005] * 25)
    constant = TrainConfig(lr=0.5, warmup=0.1, schedule="constant")
    assert [constant.learning_rate(step, 100) for step in range(100)] == pytest.approx(
        [*rates[:10], *[0.5] * 90]
    )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_trainings_have_a_rate(steps: int) -> None:
    rates = [TrainConfig(lr=0.1).learning_rate(step, steps) for step in range(steps)]
    assert rates[0] == 0.1
    assert all(0 < rate <= 0.1 for rate in rates)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 1}, "--batch-size"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": math.inf}, "--lr"),
        ({"lr": math.nan}, "--lr"),
        ({"seed": -1}, "--seed"),
        ({"precision": "fp8"}, "--train-precision fp8 is not known"),
        ({"warmup": 1.0}, "--warmup"),
        ({"drops": (0.5, 1.0)}, "--lr-drops"),
        ({"shift": -1}, "--shift"),
        ({"weight_decay": -0.1}, "--weight-decay"),
        ({"momentum": 1.0}, "--momentum"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"mixup": -0.1}, "--mixup"),
        ({"cutmix": math.nan}, "--cutmix"),
        ({"ema": 1.0}, "--ema"),
        ({"clip_grad": -1.0}, "--clip-grad"),
        ({"grad_accumulation": 0}, "--grad-accumulation"),
        ({"optimizer": "lion"}, "--optimizer lion is not known"),
        ({"schedule": "linear"}, "--lr-schedule"),
        ({"keep": "all"}, "--keep all is not known"),
    ],
)
def test_what_no_training_can_use(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        TrainConfig(**options).check()  # type: ignore[arg-type]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="--device abacus is not a device"):
        choose_device("abacus")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
