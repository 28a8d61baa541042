"""What trainings gain that share a GPU."""

import pytest

from imf_deploy.settings import TrainingSettings
from imf_deploy.study.pool import Sharing
from imf_deploy.study.run import Run


def run(method: str, epochs: int = 2) -> Run:
    return Run.of("resnet8", method, {}, TrainingSettings(epochs=epochs))


def test_only_trainings_of_one_kind_are_compared() -> None:
    sharing = Sharing(4)
    assert sharing.unmeasured
    sharing.add(run("ce"), 10.0, alone=True)
    assert not sharing.unmeasured
    sharing.add(run("kd"), 80.0, alone=False)
    sharing.add(run("ce", 9), 80.0, alone=False)
    assert sharing.gain() is None
    assert sharing.describe() == ""
    sharing.add(run("ce"), 15.0, alone=False)
    sharing.add(run("ce"), 25.0, alone=False)
    assert sharing.gain() == pytest.approx(4 * 10 / 20)
    assert "they are 2.00 times as fast as one after the other" in sharing.describe()
    assert "fewer" not in sharing.describe()


def test_sharing_that_gains_nothing_is_named() -> None:
    sharing = Sharing(2)
    sharing.add(run("ce"), 10.0, alone=True)
    sharing.add(run("ce"), 20.0, alone=False)
    assert sharing.describe().endswith("fewer `jobs` would be as fast")
