"""The one description of how a picture becomes a network's input.

It is derived once from the data set and then used for training, verification, calibration and
serving; it travels in every sidecar and in the metadata of every ONNX file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from imf_deploy.errors import ImfDeployError
from imf_deploy.limits import LARGEST_SIDE, MOST_CLASSES
from imf_deploy.upright import Box, Upright

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image
    from torch import Tensor

Resize = Literal["none", "crop", "input"]
Crop = Callable[[int, int], tuple[int, int, int, int]]
"""Height and width of a picture in pixels -> top, left, height and width of the part to take."""


# The centre crop of a longer picture shows only its middle, and scaled as a whole it could fill the memory.
_LONGEST = 8


def _middle(width: int, height: int) -> Box:
    """Return the whole of a picture, or the middle of one more than 8 times as long as wide."""
    sides = []
    for side in (width, height):
        kept = _LONGEST * min(width, height)
        # The middle stays where it is: what is left away is the same on both sides.
        margin = max(side - kept, 0) // 2
        sides.append((margin, side - margin))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


@dataclass(frozen=True)
class Preprocess:
    """Picture -> float32 network input ``[N, 3, size, size]``.

    Attributes:
        size: Height and width of the network's input, in pixels.
        resize: ``none`` (pictures already have the size), ``crop`` (the shorter side is scaled
            to ``resize_to`` with a bilinear filter, then the centre is cropped), or ``input`` (the network
            was only given tensors: how pictures become its input is not known).
        resize_to: Length of the shorter side before the centre crop, in pixels.
        mean: Mean of each of the three channels, on the scale where white is 1.
        std: Standard deviation of each of the three channels, on the same scale.
        labels: Names of the classes, in the order of the logits.
        color: ``RGB``, or ``L`` for grey pictures, whose one channel is repeated three times.
    """

    size: int
    resize: Resize
    resize_to: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: tuple[str, ...]
    color: Literal["RGB", "L"] = "RGB"

    @classmethod
    def of_tensors(cls, size: int, labels: tuple[str, ...]) -> Preprocess:
        """Return what is known of a network that was only given tensors: its size and its classes."""
        return cls(size, "input", size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), labels)

    @property
    def known(self) -> bool:
        """Whether it is known how pictures become the network's input."""
        return self.resize != "input"

    def check_known(self, name: str) -> None:
        """Refuse pictures for a network that was only given tensors.

        Raises:
            ImfDeployError: naming what holds them.
        """
        if not self.known:
            raise ImfDeployError(
                f"{name} holds pictures, and how they become the network's input is not known",
                "Give the network its preprocess, or give normalised float32 images",
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, and of logits."""
        return len(self.labels)

    @property
    def picture_bytes(self) -> int:
        """Size of a prepared picture, which :meth:`normalize` turns into numbers."""
        return (1 if self.color == "L" else 3) * self.size**2

    def load(self, image: Image.Image, crop: Crop | None = None) -> npt.NDArray[np.uint8]:
        """Turn any PIL picture into ``uint8 [C, size, size]`` (C is 3, or 1 for ``L``).

        The first frame is taken, EXIF rotation is applied, 16-bit channels keep their high byte, and
        palettes, CMYK and 1-bit pictures are converted. Transparency is dropped, as torchvision and
        OpenCV do.

        Args:
            image: The picture.
            crop: Chooses a part of the picture, which is scaled to the network's input in place of
                resizing and cropping the centre.

        Raises:
            ImfDeployError: 32-bit pixels, whose range nothing tells, or a size other than the network's
                where nothing is resized.
        """
        import numpy as np

        self.check_known("a file")
        upright = Upright.of(image, self.color)
        width, height = upright.size
        size = (self.size, self.size)
        if crop:
            top, left, rows, columns = crop(height, width)
            picture = upright.scaled(size, (left, top, left + columns, top + rows))
        elif self.resize == "crop":
            box = _middle(width, height)
            across, down = box[2] - box[0], box[3] - box[1]
            ratio = self.resize_to / min(across, down)
            scaled = (max(round(across * ratio), self.size), max(round(down * ratio), self.size))
            picture = upright.scaled(scaled, box)
            left, top = (scaled[0] - self.size) // 2, (scaled[1] - self.size) // 2
            picture = picture.crop((left, top, left + self.size, top + self.size))
        elif (width, height) != size:
            raise ImfDeployError(f"a picture is {width}x{height} pixels, not {self.size}x{self.size}")
        else:
            picture = upright.cut((0, 0, width, height))
        pixels = np.asarray(picture)
        return pixels[None] if self.color == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def normalize(self, images: Tensor) -> Tensor:
        """Turn ``uint8 [N, 1 or 3, H, W]`` into ``float32 [N, 3, H, W]``, channels last.

        Images of floating point are the network's input already, and keep their values.
        """
        return self.normalizer(images.device)(images)

    def normalizer(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return :meth:`normalize` for images on one device, which already holds mean and deviation."""
        import torch

        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1) * 255

        def normalize(images: Tensor) -> Tensor:
            whole = images.is_floating_point()
            normal = images if whole else (images.expand(-1, 3, -1, -1).float() - mean) / std
            return normal.contiguous(memory_format=torch.channels_last)

        return normalize

    def metadata(self) -> dict[str, str]:
        """Return the metadata of an ONNX file: the labels, and, where it is known, this record."""
        own = {"labels": json.dumps(self.labels, ensure_ascii=False)}
        return own | ({"preprocess": json.dumps(self.to_dict(), ensure_ascii=False)} if self.known else {})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that sidecars and ONNX metadata hold."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preprocess:
        """Read the form of :meth:`to_dict`.

        Raises:
            ImfDeployError: a field is missing or has the wrong form.
        """
        try:
            mean, std = (tuple(float(v) for v in content[key]) for key in ("mean", "std"))
            if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not all(map(math.isfinite, mean + std)):
                raise ValueError("mean and std need three finite values, std above zero")
            if content["resize"] not in get_args(Resize) or content["color"] not in ("RGB", "L"):
                raise ValueError("unknown resize or color")
            size, resize_to, labels = content["size"], content["resize_to"], content["labels"]
            if type(size) is not int or not 1 <= size <= LARGEST_SIDE:
                raise ValueError(f"size must be a whole number from 1 to {LARGEST_SIDE}")
            if type(resize_to) is not int or not 1 <= resize_to <= 2 * LARGEST_SIDE:
                raise ValueError(f"resize_to must be a whole number from 1 to {2 * LARGEST_SIDE}")
            if not isinstance(labels, list) or not 1 <= len(labels) <= MOST_CLASSES:
                raise ValueError(f"labels must be a list of 1 to {MOST_CLASSES:,} names")
            return cls(
                size=size,
                resize=content["resize"],
                resize_to=resize_to,
                mean=mean,
                std=std,
                labels=tuple(str(label) for label in labels),
                color=content["color"],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ImfDeployError(f"the preprocessing record is damaged ({error})") from error
