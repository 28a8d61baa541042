"""An adapter in front of a teacher whose images are prepared differently from the student's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.image_size import Size, sides
from imf_deploy.preprocess import Preprocess

# ITU-R BT.601, by which Pillow makes coloured images grey.
_LIGHT = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class InputAdapter:
    """Turns the student's input into a teacher's: other mean and deviation, size, and channels.

    It is a forward pre-hook, so that the teacher's modules and tensors keep their names. Both networks see
    the same part of an image, whatever part the teacher's own crop would keep: its maps have to match the
    student's.

    Attributes:
        given: Mean and deviation of the student's input.
        own: Mean and deviation of the teacher's input.
        size: Size of the teacher's input.
        grey: Whether the teacher takes grey images, but the student's are coloured.
        bicubic: Whether a change of size uses the bicubic filter instead of the bilinear one.
    """

    given: tuple[tuple[float, ...], tuple[float, ...]]
    own: tuple[tuple[float, ...], tuple[float, ...]]
    size: Size
    grey: bool = False
    bicubic: bool = False
    _constants: dict[torch.device, list[Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def between(cls, student: Preprocess, teacher: Preprocess) -> InputAdapter | None:
        """Return the adapter from a student's input to a teacher's; ``None`` if they are the same."""
        alike = (student.mean, student.std, student.shape) == (teacher.mean, teacher.std, teacher.shape)
        grey = teacher.color == "L" and student.color == "RGB"
        if alike and not grey:
            return None
        return cls(
            (student.mean, student.std),
            (teacher.mean, teacher.std),
            teacher.size,
            grey,
            teacher.interpolation == "bicubic",
        )

    @property
    def identity(self) -> list[Any]:
        """What decides its output, for recipes."""
        return [self.given, self.own, sides(self.size), self.grey, self.bicubic]

    def attach(self, teacher: nn.Module) -> None:
        """Let a teacher take the student's input from now on."""
        teacher.register_forward_pre_hook(lambda _, inputs: (self(inputs[0]), *inputs[1:]))

    def __call__(self, images: Tensor) -> Tensor:
        """``float [N, C, H, W]``, the student's input -> the teacher's input."""
        known = self._constants.get(images.device)
        if known is None:
            values = (*self.given, *self.own, _LIGHT)
            with torch.inference_mode(False):  # they are used in other modes later
                known = [torch.tensor(each, device=images.device).view(1, -1, 1, 1) for each in values]
            self._constants[images.device] = known
        mean, std, own_mean, own_std, light = known
        pixels = images * std + mean
        if self.grey:
            pixels = (pixels * light).sum(1, keepdim=True)
        elif own_mean.shape[1] < pixels.shape[1]:  # the channels of grey images are equal
            pixels = pixels[:, :1]
        if tuple(pixels.shape[-2:]) != sides(self.size):
            mode = "bicubic" if self.bicubic else "bilinear"
            pixels = functional.interpolate(pixels, sides(self.size), mode=mode, antialias=True)
        return ((pixels - own_mean) / own_std).contiguous(memory_format=torch.channels_last)
