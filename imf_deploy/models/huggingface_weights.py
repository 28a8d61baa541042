"""Weights and image processors of Hugging Face's transformers; see :mod:`imf_deploy.models.huggingface`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imf_deploy.errors import ImfDeployError, UsageError, first_line
from imf_deploy.image_size import ImageSize
from imf_deploy.limits import LARGEST_SIDE
from imf_deploy.models.caches import from_hub
from imf_deploy.models.huggingface import CONFIG, cached_folder, quiet, read_config
from imf_deploy.models.published import PRETRAINED, Published
from imf_deploy.preparation import Preparation
from imf_deploy.settings.network import NetworkSettings
from imf_deploy.untrusted import shorten

WEIGHTS = "model.safetensors"
_PROCESSOR = "preprocessor_config.json"
# transformers' ConvNextImageProcessor scales larger images without a crop.
_UNCROPPED = 384


def find_huggingface(text: str, name: str) -> Published:
    """Find the weights of a network of transformers; only its description is downloaded, if it is missing.

    Args:
        text: ``pretrained``.
        name: A folder, or the name of a repository.

    Raises:
        UsageError: ``text`` names other weights, or images are prepared in a way that is not supported.
        ImfDeployError: the description cannot be read.
    """
    if text != PRETRAINED:
        raise UsageError(
            f"hf:{name} has no weights '{shorten(text, 60)}'",
            f"Use {PRETRAINED}; another revision is hf:OWNER/NAME@REVISION",
        )
    folder = _described(name)
    names = [str(label) for _, label in sorted(read_config(folder).id2label.items())]
    generic = all(label == f"LABEL_{index}" for index, label in enumerate(names))
    return Published(
        f"hf:{name}",
        None,
        _preparation(folder),
        lambda: _weights(name, folder),
        _read,
        () if generic else tuple(names),
    )


def _described(name: str) -> Path:
    if Path(name).is_dir():
        return cached_folder(name)
    folder = from_hub(name, CONFIG).parent
    try:
        from_hub(name, _PROCESSOR)
    except ImfDeployError:  # some networks have none
        return folder
    return folder


def _weights(name: str, folder: Path) -> Path:
    if not Path(name).is_dir():
        return from_hub(name, WEIGHTS)
    path = folder / WEIGHTS
    if not path.is_file():
        raise UsageError(
            f"{name} has no {WEIGHTS}",
            "Only a whole safetensors file is read. Write one, in Python: "
            "from transformers import AutoModelForImageClassification as Auto; "
            f"Auto.from_pretrained({name!r}).save_pretrained('converted', max_shard_size='50GB')",
        )
    return path


def _read(path: Path, image_size: ImageSize, settings: NetworkSettings) -> Mapping[str, Tensor]:
    """Return the ``state_dict`` in a file; transformers converts old names."""
    from transformers import AutoModelForImageClassification

    config = read_config(path.parent)
    try:
        with quiet():
            network, found = AutoModelForImageClassification.from_pretrained(
                path.parent,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # a broken file provokes many kinds of errors
        raise ImfDeployError(
            f"{path} does not hold the weights of its {CONFIG} ({shorten(first_line(error))})",
            "Download it again, or save the network again with save_pretrained",
        ) from error
    # transformers leaves what the file does not hold at random values.
    missing = {*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in missing}


def _preparation(folder: Path) -> Preparation | None:
    """Return how images are prepared; ``None`` if the folder does not describe it.

    Raises:
        UsageError: in a way that is not supported.
        ImfDeployError: the description is damaged.
    """
    from transformers import AutoImageProcessor

    path = folder / _PROCESSOR
    if not path.is_file():
        return None
    try:
        with quiet():
            processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            described = processor.to_dict()
            # A processor may rescale, shift and normalise more than once: what it does is measured.
            black, white, red = (_processed(processor, colour) for colour in ("black", "white", "red"))
    except Exception as error:  # transformers reads any content without checks
        raise ImfDeployError(
            f"{path} cannot be used ({shorten(first_line(error))})",
            "Save the image processor again with save_pretrained",
        ) from error
    if black.shape[-1] != black.shape[-2] or not 0 < black.shape[-1] <= LARGEST_SIDE:
        size = "x".join(map(str, black.shape[-2:]))
        raise UsageError(f"hf:{folder} expects images of {size} pixels", "Use a network for square images")
    centre = black.shape[-1] // 2
    low, high, reddish = (image[:, centre, centre] for image in (black, white, red))
    if not np.array_equal(reddish, [high[0], low[1], low[2]]):
        raise UsageError(f"hf:{folder} expects the channels in another order than RGB", "Use another network")
    return Preparation(
        int(black.shape[-1]),
        _crop_fraction(described, int(black.shape[-1])),
        _three(-low / (high - low)),
        _three(1 / (high - low)),
        "bilinear" if described.get("resample") == 2 else "bicubic",
    )


def _processed(processor: Any, colour: str) -> Any:
    from PIL import Image

    image = Image.new("RGB", (512, 512), colour)
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0], dtype=np.float64)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue


def _crop_fraction(described: Mapping[str, Any], size: int) -> float:
    """Return the part of the scaled image's shorter side that is kept."""
    if described.get("do_center_crop"):
        scaled = described.get("size") or {}
        side = scaled.get("shortest_edge") or scaled.get("height")
        return min(size / side, 1.0) if described.get("do_resize") and side else 1.0
    if "crop_pct" in described and size < _UNCROPPED:
        return float(described["crop_pct"])
    return 1.0
