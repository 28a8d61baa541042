"""The only description of how an image becomes a network's input.

It is derived once from the data set and then used for training, verification, calibration and serving. It is
stored in every sidecar and in the metadata of every ONNX file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BeforeValidator, Field

from imf_deploy.errors import ImfDeployError
from imf_deploy.forms import read_typed
from imf_deploy.limits import LARGEST_SIDE, MOST_CLASSES
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.upright import Box, Upright

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Resize = Literal["none", "crop", "input"]
Interpolation = Literal["bilinear", "bicubic"]
Crop = Callable[[int, int], tuple[int, int, int, int]]
"""Height and width of an image in pixels -> top, left, height and width of the part to use."""


# The centre crop of a longer image shows only its middle, and scaling the whole could fill the memory.
_LONGEST = 8


def _middle(width: int, height: int) -> Box:
    """Return the whole of an image, or the middle of one that is more than 8 times as long as wide."""
    # The middle is kept in place: the same amount is removed on both sides.
    left, top = (max(side - _LONGEST * min(width, height), 0) // 2 for side in (width, height))
    return left, top, width - left, height - top


_Positive = Annotated[float, Field(gt=0)]
_Label = Annotated[str, BeforeValidator(str)]


@dataclass(frozen=True)
class Preprocess:
    """Image -> float32 network input ``[N, 3, size, size]``.

    Attributes:
        size: Height and width of the network's input, in pixels.
        resize: ``none`` (images already have the size), ``crop`` (the shorter side is scaled
            to ``resize_to``, then the centre is cropped), or ``input`` (the network was only given tensors:
            how images become its input is not known).
        resize_to: Length of the shorter side before the centre crop, in pixels.
        mean: Mean of each of the three channels, on the scale where white is 1.
        std: Standard deviation of each of the three channels, on the same scale.
        labels: Names of the classes, in the order of the logits.
        color: ``RGB``, or ``L`` for grey images, whose only channel is repeated three times.
        interpolation: Filter by which images are scaled.
    """

    size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    resize: Resize
    resize_to: Annotated[int, Field(ge=1, le=2 * LARGEST_SIDE)]
    mean: tuple[float, float, float]
    std: tuple[_Positive, _Positive, _Positive]
    labels: Annotated[tuple[_Label, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    color: Literal["RGB", "L"] = "RGB"
    interpolation: Interpolation = "bilinear"

    @classmethod
    def of_tensors(cls, size: int, labels: tuple[str, ...]) -> Preprocess:
        """Return what is known of a network that was only given tensors: its size and its classes."""
        return cls(size, "input", size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), labels)

    def check_known(self, name: str) -> None:
        """Refuse images for a network that was only given tensors.

        Raises:
            ImfDeployError: naming what holds the images.
        """
        if self.resize == "input":
            raise ImfDeployError(
                f"{name} holds images, but the preprocessing of the network is unknown",
                "Give the network its preprocess, or use normalised float32 images",
            )

    def metadata(self) -> dict[str, str]:
        """Return the metadata of an ONNX file: the labels, and this record, if it is known."""
        known = asdict(self)
        if self.interpolation == "bilinear":  # what readers of earlier files assume
            del known["interpolation"]
        own = {"labels": self.labels} | ({} if self.resize == "input" else {"preprocess": known})
        return {key: json.dumps(value, ensure_ascii=False) for key, value in own.items()}

    @property
    def num_classes(self) -> int:
        """Number of classes, and of logits."""
        return len(self.labels)

    @property
    def task(self) -> Task:
        """What the labels are for; single-label classification is the only task so far."""
        return CLASSIFICATION

    @property
    def picture_bytes(self) -> int:
        """Size in bytes of a prepared image, before :meth:`normalize`."""
        return (1 if self.color == "L" else 3) * self.size**2

    def load(self, image: Image.Image, crop: Crop | None = None) -> npt.NDArray[np.uint8]:
        """Turn any PIL image into ``uint8 [C, size, size]`` (C is 3, or 1 for ``L``).

        The first frame is used, EXIF rotation is applied, 16-bit channels keep their high byte, and palettes,
        CMYK and 1-bit images are converted. Transparency is dropped, as in torchvision and OpenCV.

        Args:
            image: The image.
            crop: Chooses a part of the image, which is scaled to the network's input instead of resizing and
                cropping the centre.

        Raises:
            ImfDeployError: the image has 32-bit pixels, whose range is unknown, or its size is not the
                network's and nothing is resized.
        """
        self.check_known("a file")
        upright = Upright.of(image, self.color)
        width, height = upright.size
        size = (self.size, self.size)
        if crop:
            top, left, rows, columns = crop(height, width)
            picture = upright.scaled(size, (left, top, left + columns, top + rows), self.interpolation)
        elif self.resize == "crop":
            box = _middle(width, height)
            across, down = box[2] - box[0], box[3] - box[1]
            ratio = self.resize_to / min(across, down)
            scaled = (max(round(across * ratio), self.size), max(round(down * ratio), self.size))
            picture = upright.scaled(scaled, box, self.interpolation)
            left, top = (scaled[0] - self.size) // 2, (scaled[1] - self.size) // 2
            picture = picture.crop((left, top, left + self.size, top + self.size))
        elif (width, height) != size:
            raise ImfDeployError(f"an image is {width}x{height} pixels, not {self.size}x{self.size}")
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
        """Return :meth:`normalize` for images on one device, with mean and deviation already on it."""
        import torch

        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1) * 255

        def normalize(images: Tensor) -> Tensor:
            whole = images.is_floating_point()
            normal = images if whole else (images.expand(-1, 3, -1, -1).float() - mean) / std
            return normal.contiguous(memory_format=torch.channels_last)

        return normalize

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preprocess:
        """Read what ``dataclasses.asdict`` gives, as sidecars and ONNX metadata hold it.

        Raises:
            ImfDeployError: a field is missing or has the wrong form.
        """
        try:
            if "color" not in content:  # nothing is guessed of a record
                raise ValueError("color: Field required")
            return read_typed(cls, content)
        except ValueError as error:
            raise ImfDeployError(f"the preprocessing record is damaged ({error})") from error
