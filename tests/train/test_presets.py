"""The pairs and the recipe of Tian et al. 2019."""

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, resolve
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.presets import PRESETS, find_preset


def test_thirteen_pairs_of_networks_that_there_are() -> None:
    assert len(PRESETS) == 13
    for name, preset in PRESETS.items():
        teacher, student = resolve(preset.teacher), resolve(preset.student)
        assert teacher.library == student.library == "cifar"
        assert name == f"cifar100/{teacher.name}-{student.name}"
        assert ModelSpec.for_images(preset.student, 100, 32).stem_strides == ()


@pytest.mark.parametrize(
    ("name", "lr"),
    [("resnet56-resnet20", 0.05), ("vgg13-mobilenetv2", 0.01), ("wrn-40-2-shufflenetv1", 0.01)],
)
def test_the_recipe(name: str, lr: float) -> None:
    preset = find_preset(f"cifar100/{name}")
    for config, rate in (
        (TrainConfig(**preset.recipe()), lr),
        (TrainConfig(**preset.recipe(teacher=True)), 0.05),
    ):
        config.check()
        assert (config.epochs, config.batch_size, config.weight_decay) == (240, 64, 5e-4)
        assert (config.nesterov, config.shift, config.flip) == (False, 4, True)
        per_epoch = 782
        rates = [config.learning_rate(epoch * per_epoch, 240 * per_epoch) for epoch in range(240)]
        expected = [rate] * 150 + [rate / 10] * 30 + [rate / 100] * 30 + [rate / 1000] * 30
        assert rates == pytest.approx(expected)


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cifar100/resnet56-resnet20"):
        find_preset("resnet56-resnet20")
