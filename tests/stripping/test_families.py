"""Students of many families, the smallest of each: stripped and proved.

In ONNX Runtime they are compared by ``tests/test_family_runs.py``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imf_deploy.distillation.distill import Distilled
from imf_deploy.method.names import blocks_kept
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.models import build_model, load_weights, read_weights
from imf_deploy.stripping.stage import strip

# MobileNetV2 and ResNet of torchvision have tests of their own; blocks with a branch at 32 pixels, and how
# many of them an imf@k may end with.
FAMILIES = {
    "timm:mobilenetv2_035": (["blocks.1", "blocks.2", "blocks.4", "blocks.6"], 4),
    "timm:mobilenetv3_small_050": (["blocks.0", "blocks.1", "blocks.3", "blocks.5"], 4),
    "timm:resnet10t": (["layer1", "layer2", "layer3", "layer4.0.aa", "layer4"], 4),
    "shufflenet_v2_x0_5": (["stage2", "stage3", "stage4", "conv5"], 3),
    "timm:tf_efficientnet_lite0": (["blocks.1", "blocks.2", "blocks.4", "blocks.5", "blocks.6"], 4),
    "timm:regnetx_002": (["s1", "s2", "s3", "s4.b5", "s4"], 4),
    "torchvision:mnasnet0_5": (["layers.8", "layers.9", "layers.11", "layers.13", "layers"], 4),
    "cifar:vgg8": (["stages.1", "stages.2", "stages.3", "stages"], 3),
    "timm:convnext_atto": (["stages.0", "stages.1", "stages.2", "stages.3.downsample", "stages.3"], 4),
    "timm:ghostnet_050": (["blocks.1", "blocks.3", "blocks.5", "blocks.7"], 4),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_family(make_distilled: Callable[[str], Distilled], tmp_path: Path, name: str) -> None:
    distilled = make_distilled(name)
    images = torch.randn(4, 3, 32, 32)
    members = distilled.graph.imf.members
    assert ([block.name for block in distilled.blocks], members) == FAMILIES[name]
    products = choose_products(["all"], members)
    made = strip(distilled, products, tmp_path / "products", images)
    assert [artifact.product for artifact in made] == products
    assert all(artifact.strip.passed for artifact in made)
    plain, *others = made
    assert all(other.macs <= plain.macs for other in others)
    assert all(other.parameters <= plain.parameters for other in others)
    library = build_model(distilled.spec)
    load_weights(library, read_weights(made[0].path), name)
    with torch.inference_mode():
        own, branches = distilled.graph(images)
        for artifact in made:
            k = blocks_kept(artifact.product)
            expected = branches.attentive[k - 1] if k else own
            logits = load_product(artifact.path).module(images)
            assert torch.allclose(logits, expected, atol=1e-4 * float(expected.std()), rtol=1e-4)
        assert own.std() > 1e-6  # not a network that says nothing, which anything would equal
