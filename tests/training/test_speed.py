"""How fast an epoch trains, in words."""

import re

import pytest
import torch

from imf_deploy.training import speed
from imf_deploy.training.speed import Speed


def test_images_are_counted_over_the_time_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 50.0, 52.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    measured = Speed()
    for _ in range(2):
        with measured.watch(torch.device("cpu")):
            measured.count(3000)
            measured.count(1000)
    assert measured.describe() == "2,000 images/s"


def test_an_interrupted_epoch_ends_its_watch() -> None:
    measured = Speed()
    with pytest.raises(KeyboardInterrupt), measured.watch(torch.device("cpu")):
        measured.count(5)
        raise KeyboardInterrupt
    assert re.fullmatch(r"[\d,]+ images/s", measured.describe())
