"""Thumbnails of test images for a page, as the network sees them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

from imf_deploy.data import Split

LARGEST = 96
"""Longest side of a thumbnail in pixels; smaller images keep their size."""


def thumbnails(split: Split, images: Iterable[int]) -> dict[str, str]:
    """Return PNG data URIs by position in a split.

    Args:
        split: The split that contains the images.
        images: Positions in the split; each image is decoded once.
    """
    import torch
    from PIL import Image

    positions = sorted(set(images))
    if not positions:
        return {}
    pixels = split.fetch(torch.tensor(positions)).permute(0, 2, 3, 1).numpy()
    pictures = {}
    for position, picture in zip(positions, pixels, strict=True):
        grey = picture.shape[-1] == 1
        image = Image.fromarray(picture[..., 0] if grey else picture)
        image.thumbnail((LARGEST, LARGEST))
        content = io.BytesIO()
        image.save(content, "PNG", optimize=True)
        pictures[str(position)] = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    return pictures
