"""``plain``: the library's own network, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from imf_deploy.distillation.distill import Distilled
from imf_deploy.method.products import load_product
from imf_deploy.models.strides import set_stem_strides
from imf_deploy.stripping.stage import strip

LIBRARY = {"mobilenetv2": "mobilenet_v2", "resnet18": "resnet18", "shufflenetv2": "shufflenet_v2_x1_0"}


@pytest.mark.parametrize("name", LIBRARY)
def test_weights_load_strictly_into_the_library_s_network(
    make_distilled: Callable[[str], Distilled], tmp_path: Path, name: str
) -> None:
    distilled = make_distilled(name)
    images = torch.randn(4, 3, 32, 32)
    (artifact,) = strip(distilled, ["plain"], tmp_path / "products", images)
    library = getattr(torchvision.models, LIBRARY[name])(num_classes=10)
    library.load_state_dict(load_file(artifact.path), strict=True)
    assert artifact.path.name == f"{name}-plain.safetensors"
    assert artifact.parameters == sum(p.numel() for p in library.parameters())
    set_stem_strides(library, distilled.spec.stem_strides, 32)
    library = library.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, _ = distilled.graph(images)
        assert torch.equal(library(images), expected)
        assert torch.equal(load_product(artifact.path).module(images), expected)


def test_the_proof(make_distilled: Callable[[str], Distilled], tmp_path: Path) -> None:
    distilled = make_distilled("resnet8")
    (artifact,) = strip(distilled, ["plain"], tmp_path / "products")
    proof = artifact.strip
    assert proof.passed
    assert proof.logits_identical
    assert (proof.max_abs_diff, proof.images) == (0.0, 64)
    (rung,) = proof.ladder
    assert (rung.name, rung.max_abs_diff, rung.tolerance) == ("stripped", 0.0, 0.0)
    assert proof.keys_match
    assert {row.module for row in proof.removed} == {
        *(f"imf.{part}.{i}" for part in ("ifds", "heads") for i in range(4)), "imf.attention",
    }  # fmt: skip
    gone = sum(row.parameters for row in proof.removed)
    assert proof.parameters_before - proof.parameters_after == gone
    assert proof.macs_before > proof.macs_after == artifact.macs
