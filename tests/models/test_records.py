"""Records of networks that may be anybody's: limits, settings, and names of products."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.distillation.distill import Distilled, load_distilled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.forms import read_typed
from imf_deploy.method.names import blocks_kept
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.models.names import resolve
from imf_deploy.models.settings import check_settings
from imf_deploy.records.files import Artifact, DistilledFile
from imf_deploy.records.making import Block
from imf_deploy.settings import ReadingSettings
from imf_deploy.settings.network import read_settings
from imf_deploy.stripping.stage import strip

SPEC = {"name": "resnet8", "num_classes": 3, "image_size": 16, "stem_strides": [], "taps": []}


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"name": None},
        {"num_classes": "3"},
        {"num_classes": -3},
        {"num_classes": 10**9},
        {"num_classes": True},
        {"image_size": -3},
        {"image_size": 10**7},
        {"image_size": 16.5},
        {"image_size": None},
        {"stem_strides": [3]},
        {"stem_strides": [1] * 9},
        {"stem_strides": "11"},
        {"taps": [1]},
        {"taps": [None]},
        {"taps": "layer1"},
        {"settings": []},
        {"settings": {"pretrained": [1]}},
        {"settings": {"a b": 1}},
        {"settings": {"a": "../x"}},
        {"settings": {"a": 1e300}},
    ],
)
def test_a_damaged_record_of_a_network(change: dict[str, Any]) -> None:
    with pytest.raises(ImfDeployError, match="the record of the model is damaged") as caught:
        ModelSpec.from_dict(SPEC | change)
    assert "\n" not in str(caught.value)


def test_a_whole_record() -> None:
    assert ModelSpec.from_dict(SPEC) == ModelSpec("resnet8", 3, 16)
    spec = ModelSpec("googlenet", 3, 32, settings=(("transform_input", True),))
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert build_model(spec).transform_input


@pytest.mark.parametrize(
    "setting", ["pretrained", "checkpoint_path", "cache_dir", "features_only", "num_classes"]
)
def test_a_record_cannot_have_files_fetched(setting: str) -> None:
    for name in ("timm:resnet10t", "googlenet", "resnet8"):
        spec = ModelSpec.from_dict(SPEC | {"name": name, "image_size": 32, "settings": {setting: True}})
        with pytest.raises(UsageError, match=f"has no setting '{setting}'"):
            build_model(spec)


def test_settings_of_the_command_line() -> None:
    text: Any = "transform_input = True, bn_eps=1e-3,global_pool=max, n=-2"
    read = ReadingSettings(teacher_options=text).teacher_options
    assert read
    assert dict(read) == {"transform_input": True, "bn_eps": 1e-3, "global_pool": "max", "n": -2}
    assert read == read_settings(json.loads(json.dumps(dict(read))))
    for text in ("a", "=1", "a=", "a=1,a=2", "a=/etc", "A=1", "a=b=c"):
        with pytest.raises(UsageError, match="`teacher_options`"):
            ReadingSettings(teacher_options=text)
    check_settings(resolve("timm:mobilenetv2_035"), (("act_layer", "silu"),))
    network = build_model(ModelSpec("timm:mobilenetv2_035", 3, 32, settings=(("bn_eps", 0.25),)))
    assert network.bn1.eps == 0.25


@pytest.mark.parametrize(
    "name",
    [
        "imf@+1",
        "imf@1\n",
        "imf@ 1",
        "imf@1_0",
        "imf@0",
        "imf@01",
        "imf@-1",
        "imf@\u0661",
        "imf@",
        "IMF@1",
        "",
        "imf@99999",
    ],
)
def test_names_that_are_not_products(name: str) -> None:
    with pytest.raises(ValueError, match="is not a product"):
        blocks_kept(name)
    if name.strip() not in ("imf@1", ""):
        with pytest.raises(UsageError, match="`products` has no product"):
            choose_products([name], 3)


def test_names_that_are() -> None:
    assert [blocks_kept(name) for name in ("plain", "imf@1", "imf@12")] == [0, 1, 12]


@pytest.mark.parametrize(
    "change",
    [
        {"channels": "8"},
        {"channels": -8},
        {"channels": 10**6},
        {"size": 0},
        {"layout": "nhcw"},
        {"name": None},
        {"overwritten": 1},
        {"more": 1},
    ],
)
def test_a_damaged_block(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^\w+( should be|: Unexpected)"):
        read_typed(Block, {"name": "a", "channels": 8, "size": 4} | change)


def altered(artifact: Artifact, place: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a file with its record changed."""
    path = place / artifact.path.name
    shutil.copy(artifact.path, path)
    content = json.loads(artifact.path.with_name(artifact.path.name + ".json").read_text())
    change(content)
    path.with_name(path.name + ".json").write_text(json.dumps(content))
    return path


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda c: c["model"].update(num_classes=4),
    lambda c: c["model"].update(image_size=32),
    lambda c: c["model"].update(ifds=None),
    lambda c: c["model"].update(ifds=[3]),
    lambda c: c["model"].update(ifds=[]),
    lambda c: c["model"].pop("ifds"),
    lambda c: c["model"]["ifds"][0].update(outputs=-1),
    lambda c: c["model"]["ifds"][0].update(refining="1"),
    lambda c: c["model"]["ifds"][0].update(refining=True),
    lambda c: c["model"]["ifds"][0].update(refining=10**9),
    lambda c: c["model"]["ifds"][0].update(side=0),
    lambda c: c["model"].update(taps=["stage2.nothing"]),
    lambda c: c.update(product="imf@+1"),
    lambda c: c.update(product="imf@1\n"),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_damaged_record_of_a_product(distilled: Distilled, tmp_path: Path, number: int) -> None:
    (made,) = strip(distilled, ["imf@1"], tmp_path / "products")
    with pytest.raises(ImfDeployError, match="record"):
        load_product(altered(made, tmp_path, CHANGES[number]))


DISTILLED: list[Callable[[dict[str, Any]], Any]] = [
    lambda e: e.update(teacher_features=[{"name": "a", "channels": "x", "size": 2}]),
    lambda e: e.update(teacher_features={}),
    lambda e: e["teacher_features"][0].update(size=10**9),
    lambda e: e["teacher_features"].pop(),
    lambda e: e["ifds"].pop(),
    lambda e: e["ifds"][0].update(outputs=10**9),
    lambda e: e["blocks"][0].update(name="stage2.nothing"),
    lambda e: e.update(members=-1),
    lambda e: e.update(members=9),
    lambda e: e.update(config=None),
    lambda e: e["config"].update(design={"attention": []}),
    lambda e: e["config"].update(design={"refining": "2"}),
    lambda e: e["config"].update(design={"refining": 1.5}),
    lambda e: e["config"].update(design=None),
]


@pytest.mark.parametrize("number", range(len(DISTILLED)))
def test_a_damaged_record_of_a_distillation(distilled: Distilled, tmp_path: Path, number: int) -> None:
    path = altered(distilled.artifact, tmp_path, DISTILLED[number])
    with pytest.raises(ImfDeployError, match="is damaged") as caught:
        load_distilled(load_artifact(path, DistilledFile))
    assert "\n" not in str(caught.value)


def test_the_copy_itself_is_whole(distilled: Distilled, tmp_path: Path) -> None:
    path = altered(distilled.artifact, tmp_path, lambda content: None)
    assert dataclasses.asdict(load_distilled(load_artifact(path, DistilledFile)).spec) == dataclasses.asdict(
        distilled.spec
    )
