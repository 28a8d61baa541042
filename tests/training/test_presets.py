"""The published pairs and their recipes."""

from dataclasses import fields

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, resolve
from imf_deploy.models.names import Architecture
from imf_deploy.settings import DistillSettings, TeacherSettings, TrainingSettings
from imf_deploy.settings.starts import STUDENT, TEACHER
from imf_deploy.training.presets import PRESETS, find_preset

CIFAR = {name: preset for name, preset in PRESETS.items() if name.startswith("cifar100/")}
IMAGENET = {name: preset for name, preset in PRESETS.items() if name not in CIFAR}


def test_thirteen_pairs_of_networks_that_there_are() -> None:
    assert len(CIFAR) == 13
    for name, preset in CIFAR.items():
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
        (TrainingSettings(**preset.recipe()), lr),
        (TrainingSettings(**preset.recipe(teacher=True)), 0.05),
    ):
        assert (config.epochs, config.batch_size, config.weight_decay) == (240, 64, 5e-4)
        assert (config.nesterov, config.shift, config.flip) == (False, 4, True)
        per_epoch = 782
        rates = [config.learning_rate(epoch * per_epoch, 240 * per_epoch) for epoch in range(240)]
        expected = [rate] * 150 + [rate / 10] * 30 + [rate / 100] * 30 + [rate / 1000] * 30
        assert rates == pytest.approx(expected)


def test_two_pairs_on_imagenet() -> None:
    known = {name: (resolve(p.teacher), resolve(p.student)) for name, p in IMAGENET.items()}
    assert known == {
        "imagenet/resnet34-resnet18": (
            Architecture("torchvision", "resnet34"),
            Architecture("torchvision", "resnet18"),
        ),
        "imagenet/resnet50-mobilenetv2": (
            Architecture("torchvision", "resnet50"),
            Architecture("torchvision", "mobilenet_v2"),
        ),
    }


@pytest.mark.parametrize("name", IMAGENET)
@pytest.mark.parametrize("teacher", [False, True])
def test_the_recipe_on_imagenet(name: str, teacher: bool) -> None:
    preset = find_preset(name)
    config = TrainingSettings(**preset.recipe(teacher))
    assert (config.epochs, config.batch_size, config.weight_decay) == (100, 256, 1e-4)
    assert (config.optimizer, config.momentum, config.nesterov) == ("sgd", 0.9, False)
    assert (config.augment, config.flip, config.train_precision) == ("crop-flip", True, "fp32")
    assert (config.label_smoothing, config.mixup, config.cutmix, config.ema) == (0, 0, 0, 0)
    per_epoch = 5004
    rates = [config.learning_rate(epoch * per_epoch + 1, 100 * per_epoch) for epoch in range(100)]
    assert rates == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [0.0001] * 10)
    options = preset.options(teacher)
    assert (options["data"], options["image_size"]) == ("", 224)
    assert ("student" in options) is not teacher


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cifar100/resnet56-resnet20"):
        find_preset("resnet56-resnet20")


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_is_whole_also_from_given_weights(name: str) -> None:
    preset = find_preset(name)
    for kind, start, own in (
        (TeacherSettings, TEACHER, preset.recipe(teacher=True)),
        (DistillSettings, STUDENT, preset.recipe()),
    ):
        given = kind(**own, **{start.option: "weights.pt"})
        fresh = kind(**own)
        # The weights of the loss are this project's own.
        parts = {field.name for field in fields(TrainingSettings)}
        assert {name: getattr(given, name) for name in parts} == {n: getattr(fresh, n) for n in parts}
