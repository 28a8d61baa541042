"""Names of models; a name alone neither downloads anything nor imports the user's code."""

import sys

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, file_stem, resolve
from imf_deploy.models.names import Architecture


@pytest.mark.parametrize(
    ("name", "library", "known_as"),
    [
        ("mobilenetv2", "torchvision", "mobilenet_v2"),
        ("mobilenet_v2", "torchvision", "mobilenet_v2"),
        ("torchvision:resnet50", "torchvision", "resnet50"),
        ("resnet50", "torchvision", "resnet50"),
        ("cifar:resnet50", "cifar", "resnet50"),
        ("resnet20", "cifar", "resnet20"),
        ("cifar:wrn-40-2", "cifar", "wrn-40-2"),
        ("timm:resnet10t", "timm", "resnet10t"),
        ("timm:mobilenetv3_small_050.lamb_in1k", "timm", "mobilenetv3_small_050.lamb_in1k"),
        ("no_such_package.models:build", "factory", "no_such_package.models:build"),
    ],
)
def test_a_name_and_who_builds_it(name: str, library: str, known_as: str) -> None:
    assert resolve(name) == Architecture(library, known_as)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("torchvision:resnet", "torchvision:resnet"),
        ("cifar:wrn-40-3", "cifar:wrn-40-"),
        ("timm:mobilenetv3_smal_050", "timm:mobilenetv3_small_050"),
        ("timm:hf-hub:someone/model", "timm:"),  # would be fetched
        ("timm:../model", "timm:"),
        ("package:", "Try"),
        (":factory", "Try"),
        ("a/b:factory", ""),
    ],
)
def test_names_that_stand_for_nothing(name: str, near: str) -> None:
    with pytest.raises(UsageError, match="unknown model") as caught:
        resolve(name)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    ("name", "library", "known_as", "width"),
    [
        ("mobilenetv2x0.5", "torchvision", "mobilenet_v2", 0.5),
        ("mobilenetv2x1", "torchvision", "mobilenet_v2", 1.0),
        ("mobilenetv2x0.1", "torchvision", "mobilenet_v2", 0.1),
        ("resnet20x4", "cifar", "resnet20", 4.0),
        ("resnet8x4", "cifar", "resnet8x4", 1.0),  # the literature's, which is wider in places
        ("resnet8x4x0.5", "cifar", "resnet8x4", 0.5),
    ],
)
def test_a_width(name: str, library: str, known_as: str, width: float) -> None:
    assert resolve(name) == Architecture(library, known_as, width)  # type: ignore[arg-type]
    assert file_stem(name) == name


@pytest.mark.parametrize("name", ["mobilenetv2x0.09", "mobilenetv2x0", "resnet20x4.1", "resnet20x1000"])
def test_widths_that_nothing_is_built_with(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' has a width .*from 0.1 to 4"):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    ["mobilenetv2x", "mobilenetv2x-1", "mobilenetv2xnan", "mobilenetv2x1e1", "mobilenetv2x.5", "resnet18x0.5",
     "shufflenetv2x0.5", "cifar:resnet20x0.5", "torchvision:mobilenet_v2x0.5", "mobilenetv2x0.5x0.5",
     "mobilenetv2x\u0661", "mobilenetv2x0.5\n"],
)  # fmt: skip
def test_names_that_only_look_like_a_width(name: str) -> None:
    with pytest.raises(UsageError, match="unknown model"):
        resolve(name)


def test_timm_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"pip install 'imf-deploy\[timm\]'"):
        ModelSpec.for_images("timm:resnet10t", 3, 32)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("mobilenetv2", "mobilenetv2"),
        ("timm:mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050.lamb_in1k"),
        ("cifar:wrn-40-2", "wrn-40-2"),
        ("my.models:build", "build"),
        ("../../x y", "..-..-x-y"),
    ],
)
def test_names_of_files(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_who_gets_other_strides_for_small_pictures() -> None:
    for name in ("mobilenetv2", "timm:resnet10t", "timm:ghostnet_050"):
        assert ModelSpec.for_images(name, 3, 32).stem_strides == (2, 1)
        assert ModelSpec.for_images(name, 3, 64).stem_strides == ()
    for name in ("cifar:vgg8", "vit_b_16", "swin_t", "timm:vit_tiny_patch16_224", "my.models:build"):
        assert ModelSpec.for_images(name, 3, 32).stem_strides == ()
