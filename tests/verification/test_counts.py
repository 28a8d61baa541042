"""Parameters and multiply-accumulates against numbers worked out by hand; names of products."""

import pytest
import torch
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.method.products import build_product, choose_products
from imf_deploy.models import ModelSpec
from imf_deploy.records.checks import Removed
from imf_deploy.settings.base import words
from imf_deploy.verification.proof import count_macs, count_parameters, removed_modules


def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1),  # 3*4*9 + 4 = 112 parameters, 3*4*9 * 64 = 6,912 MACs
        nn.BatchNorm2d(4),  # 8, and none counted
        nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False),  # 36, 36 * 16 = 576
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),  # 25, 20
    )


def test_by_hand() -> None:
    module = tiny().train()
    assert count_parameters(module) == 112 + 8 + 36 + 25
    assert count_macs(module, 8) == 6_912 + 576 + 20
    assert module.training
    assert module[1].num_batches_tracked == 0


def test_what_is_removed_is_counted_without_statistics() -> None:
    state = tiny().state_dict()
    kept = {name for name in state if name.startswith("0.")}
    assert removed_modules(state, kept) == [
        Removed("1.weight", 4),
        Removed("1.bias", 4),
        Removed("2.weight", 36),
        Removed("5.weight", 20),
        Removed("5.bias", 5),
    ]
    assert removed_modules(state, set(state)) == []


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("all", ["plain", "imf@1", "imf@2"]),
        ("imf@2,plain", ["plain", "imf@2"]),
        (" plain , plain ", ["plain"]),
        ("imf@1,", ["imf@1"]),
    ],
)
def test_products_by_name(option: str, expected: list[str]) -> None:
    assert choose_products(words(option), 2) == expected


@pytest.mark.parametrize("option", ["", ",", "imf@3", "imf@0", "imf", "plain,imf@9", "ALL"])
def test_products_that_are_not_there(option: str) -> None:
    with pytest.raises(UsageError, match="This student has: plain, imf@1, imf@2"):
        choose_products(words(option), 2)


@pytest.mark.parametrize("product", ["imf@0", "imf@4", "imf@x"])
def test_a_record_that_asks_for_another_product(product: str) -> None:
    model = ModelSpec("resnet8", 3, 16).to_dict()
    model["teacher_features"] = [{"name": "layer3", "channels": 8, "size": 4}]
    with pytest.raises(ImfDeployError, match="Strip again"):
        build_product(model, product)
    assert torch.is_grad_enabled()
