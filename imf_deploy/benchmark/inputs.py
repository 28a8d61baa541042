"""The input that all files of a measurement share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imf_deploy.errors import UsageError
from imf_deploy.image_size import ImageSize, shape_of
from imf_deploy.runners.base import Batch, DeployableRunner, InputShape

LARGEST_BYTES = 1 << 30
"""Maximum size of an input; a declared shape may have any size, but nothing above this is an image."""
_COLOURS = (1, 3, 4)


@dataclass(frozen=True)
class Input:
    """The input of all files of a measurement.

    Attributes:
        shape: Shape of which only the first dimension, the batch, may be free (``None``).
        type: NumPy's name of the type.
    """

    shape: InputShape
    type: str

    def check(self, batch_sizes: Sequence[int]) -> None:
        """Refuse inputs that cannot be measured, before anything is measured.

        Raises:
            UsageError: the files take another batch size, or the input is larger than ``LARGEST_BYTES``.
        """
        for number in batch_sizes:
            if self.shape[0] not in (None, number):
                raise UsageError(
                    f"a file accepts only batches of {self.shape[0]}, not {number}",
                    f"Use `batch` {self.shape[0]}",
                )
            size = number * math.prod(side or 1 for side in self.shape[1:]) * np.dtype(self.type).itemsize
            if size > LARGEST_BYTES:
                raise UsageError(
                    f"an input of {[number, *self.shape[1:]]} {self.type} takes {size / 2**30:.1f} GiB, "
                    f"but at most {LARGEST_BYTES / 2**30:.0f} GiB can be measured",
                    "Use a smaller `batch` or `image_size`, or export the file for smaller images",
                )


def common_input(runners: Mapping[str, DeployableRunner], image_size: ImageSize | None) -> Input:
    """Return the common input of all files; loads each file once."""
    expected: dict[str, Input] = {}
    for name, runner in runners.items():
        # A file that does not load must not waste the minutes of the others, so this comes before any timing.
        with runner:
            label = f"{name} (input {runner.input_name})"
            expected[name] = Input(_filled(label, runner.input_shape, image_size), runner.input_type)
    if len({(one.shape[1:], one.type) for one in expected.values()}) > 1:
        sizes = ", ".join(f"{name} {list(one.shape[1:])} {one.type}" for name, one in expected.items())
        raise UsageError(f"the files have different image sizes: {sizes}", "Measure them separately")
    fixed = {one.shape[0] for one in expected.values()} - {None}
    if len(fixed) > 1:
        sizes = ", ".join(f"{name} {one.shape[0] or 'any'}" for name, one in expected.items())
        raise UsageError(f"the files have different batch sizes: {sizes}", "Measure them separately")
    first = next(iter(expected.values()))
    return Input((fixed.pop() if fixed else None, *first.shape[1:]), first.type)


def _filled(name: str, shape: InputShape, image_size: ImageSize | None) -> InputShape:
    """Return a file's input shape with the free dimensions of images filled in; the batch stays free."""
    if not shape:
        raise UsageError(f"{name} is a single number: there is no batch", "Only networks are measured")
    if len(shape) != 4:
        if None in shape[1:]:
            raise UsageError(
                f"{name} has the shape {_told(shape)}: only the batch and the sides of images may be free",
                "Fix the others in the file: python -m onnxruntime.tools.make_dynamic_shape_fixed",
            )
        return shape
    # [N, H, W, C] if only the last dimension can be channels, else [N, C, H, W].
    height = 1 if shape[3] in _COLOURS and shape[1] not in _COLOURS else 2
    sides = shape[height : height + 2]
    if image_size is None and None in sides:
        raise UsageError(
            f"{name} leaves the size of its images free", "Use `image_size` PIXELS or HEIGHTxWIDTH"
        )
    channels, *wanted = shape_of(image_size) if image_size else (3, *sides)
    if any(own not in (None, given) for own, given in zip(sides, wanted, strict=True)):
        raise UsageError(f"{name} accepts only images of {list(sides)}", "Leave `image_size` out")
    own = shape[3 if height == 1 else 1]
    if isinstance(image_size, tuple) and len(image_size) == 3 and own not in (None, channels):
        raise UsageError(f"{name} accepts only images of {own} channels", "Leave the channels out")
    filled = (own or channels, *wanted)
    return (shape[0], *(filled if height == 2 else (*filled[1:], filled[0])))


def _told(shape: InputShape) -> str:
    return f"[{', '.join('free' if side is None else str(side) for side in shape)}]"


def noise(shape: Sequence[int], kind: str, seed: int) -> Batch:
    """Return an input of a shape: normal noise, or for integers all values that a pixel can have.

    Integers of more than 8 bits are mostly indices, and only 0 and 1 are always valid.

    Args:
        shape: Shape including the batch.
        kind: NumPy's name of the type.
        seed: Seed of the noise.
    """
    generator = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return generator.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if dtype.itemsize == 1 else (0, 1)
    return generator.integers(low, high, shape, dtype=dtype.type, endpoint=True)
