"""The only description of how an image becomes a network's input.

It is derived once from the data set and then used for training, verification, calibration and serving. It is
stored in every sidecar and in the metadata of every ONNX file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BeforeValidator, Field

from imf_deploy.errors import ImfDeployError
from imf_deploy.forms import read_typed
from imf_deploy.image_size import CHANNELS, Shape, Size, short_size, sides
from imf_deploy.limits import LARGEST_SIDE, MOST_CLASSES
from imf_deploy.preparation import Interpolation, Preparation
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.upright import Box, Upright

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Resize = Literal["none", "crop", "input"]
Crop = Callable[[int, int], tuple[int, int, int, int]]
"""Height and width of an image in pixels -> top, left, height and width of the part to use."""


# The centre crop of a longer image shows only its middle, and scaling the whole could fill the memory.
_LONGEST = 8


def _middle(width: int, height: int, across: int, down: int) -> Box:
    """Return the whole of an image, or its middle if it is more than 8 times as long as the input needs.

    Args:
        width: Width of the image.
        height: Height of the image.
        across: Width of the input.
        down: Height of the input.
    """
    # The middle is kept in place: the same amount is removed on both sides.
    left = max(width - _LONGEST * height * across // down, 0) // 2
    top = max(height - _LONGEST * width * down // across, 0) // 2
    return left, top, width - left, height - top


_Positive = Annotated[float, Field(gt=0)]
_PerChannel = Field(min_length=min(CHANNELS), max_length=max(CHANNELS))
_Label = Annotated[str, BeforeValidator(str)]


@dataclass(frozen=True)
class Preprocess:
    """Image -> float32 network input ``[N, C, H, W]``, where ``C`` is the number of means: 3 or 1.

    Attributes:
        size: Size of the network's input in pixels: the side of a square, or height and width.
        resize: ``none`` (images already have the size), ``crop`` (the image is scaled, then the centre is
            cropped), or ``input`` (the network was only given tensors: how images become its input is not
            known).
        resize_to: How far ``crop`` scales: the shorter side of the part that an input without a margin would
            show, in pixels. It is the image's shorter side if the input is square.
        mean: Mean of each channel of the input, on the scale where white is 1.
        std: Standard deviation of each channel, on the same scale.
        labels: Names of the classes, in the order of the logits.
        color: ``RGB``, or ``L`` for grey images; their only channel is repeated if the input has three.
        interpolation: Filter by which images are scaled.

    Raises:
        ValueError: ``mean`` and ``std`` do not have 3 values, or 1, or coloured images have one channel.
    """

    size: Size
    resize: Resize
    resize_to: Annotated[int, Field(ge=1, le=2 * LARGEST_SIDE)]
    mean: Annotated[tuple[float, ...], _PerChannel]
    std: Annotated[tuple[_Positive, ...], _PerChannel]
    labels: Annotated[tuple[_Label, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    color: Literal["RGB", "L"] = "RGB"
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if len(self.mean) not in CHANNELS or len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} and std {len(self.std)} values, not 3 or 1 each")
        if self.color == "RGB" and self.channels == 1:
            raise ValueError("images in RGB have three channels; one channel needs the color L")
        object.__setattr__(self, "size", short_size(self.size))

    @classmethod
    def of_tensors(cls, shape: Shape, labels: tuple[str, ...]) -> Preprocess:
        """Return what is known of a network that was only given tensors: its input and its classes."""
        one = shape[0] == 1
        mean, std = ((0.0,), (1.0,)) if one else ((0.0,) * 3, (1.0,) * 3)
        return cls(shape[1:], "input", min(shape[1:]), mean, std, labels, "L" if one else "RGB")

    @property
    def channels(self) -> int:
        """Number of channels of the network's input: 3, or 1."""
        return len(self.mean)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the network's input."""
        return self.channels, *sides(self.size)

    @property
    def preparation(self) -> Preparation | None:
        """What of it belongs to a network's weights; ``None`` if the network was only given tensors."""
        if self.resize == "input":
            return None
        kept = 1.0 if self.resize == "none" else min(min(sides(self.size)) / self.resize_to, 1.0)
        return Preparation(self.size, kept, self.mean, self.std, self.interpolation)

    def fits(self, shape: Sequence[int | str]) -> bool:
        """Return whether prepared images are an input ``[N, C, H, W]``; a string is a free dimension."""
        return len(shape) == 4 and all(
            isinstance(given, str) or given == made for given, made in zip(shape[1:], self.shape, strict=True)
        )

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
        return math.prod(self.picture_shape)

    @property
    def picture_shape(self) -> Shape:
        """Channels, height and width of a prepared image; a grey one has one channel."""
        return 1 if self.color == "L" else 3, *self.shape[1:]

    def load(self, image: Image.Image, crop: Crop | None = None) -> npt.NDArray[np.uint8]:
        """Turn any PIL image into ``uint8 [C, H, W]`` (C is 3, or 1 for ``L``).

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
        _, down, across = self.shape
        if crop:
            top, left, rows, columns = crop(height, width)
            box = (left, top, left + columns, top + rows)
            picture = upright.scaled((across, down), box, self.interpolation)
        elif self.resize == "crop":
            box = _middle(width, height, across, down)
            columns, rows = box[2] - box[0], box[3] - box[1]
            shorter = min(down, across)
            ratio = max(
                self.resize_to * (across / shorter) / columns, self.resize_to * (down / shorter) / rows
            )
            scaled = (max(round(columns * ratio), across), max(round(rows * ratio), down))
            picture = upright.scaled(scaled, box, self.interpolation)
            left, top = (scaled[0] - across) // 2, (scaled[1] - down) // 2
            picture = picture.crop((left, top, left + across, top + down))
        elif (width, height) != (across, down):
            raise ImfDeployError(f"an image is {width}x{height} pixels, not {across}x{down}")
        else:
            picture = upright.cut((0, 0, width, height))
        pixels = np.asarray(picture)
        return pixels[None] if self.color == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def normalize(self, images: Tensor) -> Tensor:
        """Turn ``uint8 [N, 1 or 3, H, W]`` into ``float32 [N, C, H, W]``, channels last.

        Images of floating point are the network's input already, and keep their values.
        """
        return self.normalizer(images.device)(images)

    def normalize_array(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return what :meth:`normalize` does, without PyTorch and contiguous, ``float32 [N, C, H, W]``."""
        mean, std = (
            np.array(values, np.float32).reshape(1, -1, 1, 1) * np.float32(255)
            for values in (self.mean, self.std)
        )
        normal: npt.NDArray[np.float32] = np.subtract(images, mean, dtype=np.float32)
        normal /= std
        return normal

    def normalizer(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return :meth:`normalize` for images on one device, with mean and deviation already on it."""
        import torch

        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1) * 255

        def normalize(images: Tensor) -> Tensor:
            whole = images.is_floating_point()
            normal = images if whole else (images.expand(-1, self.channels, -1, -1).float() - mean) / std
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
