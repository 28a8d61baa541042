"""The one input that all files of a measurement are given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from imf_deploy.errors import UsageError
from imf_deploy.runners.base import Batch, DeployableRunner, InputShape


def common_shape(runners: Mapping[str, DeployableRunner], image_size: int | None) -> InputShape:
    """Return the one input shape of all files, ``[N or None, C, H, W]``; loads each file once."""
    shapes: dict[str, InputShape] = {}
    for name, runner in runners.items():
        # Before anything is timed: a file that does not load must not cost the others' minutes.
        with runner:
            shapes[name] = _filled(name, runner.input_shape, image_size)
    if len({shape[1:] for shape in shapes.values()}) > 1:
        told = ", ".join(f"{name} {list(shape[1:])}" for name, shape in shapes.items())
        raise UsageError(f"the files take different images: {told}", "Measure them apart")
    fixed = {shape[0] for shape in shapes.values()} - {None}
    if len(fixed) > 1:
        told = ", ".join(f"{name} {shape[0] or 'any'}" for name, shape in shapes.items())
        raise UsageError(f"the files take different batch sizes: {told}", "Measure them apart")
    return (fixed.pop() if fixed else None, *next(iter(shapes.values()))[1:])


def _filled(name: str, shape: InputShape, image_size: int | None) -> InputShape:
    """Return a file's input shape with its free height and width filled in."""
    if len(shape) != 4:
        raise UsageError(f"{name} takes an input of {len(shape)} dimensions, not [N, C, H, W]")
    number, channels, *sides = shape
    if image_size is None and None in sides:
        raise UsageError(f"{name} leaves the size of its images free", "Give --image-size PIXELS")
    if image_size is not None and any(side not in (None, image_size) for side in sides):
        raise UsageError(f"{name} takes images of {sides} only", "Leave --image-size out")
    return (number, 3 if channels is None else channels, *(side or image_size for side in sides))


def noise(shape: InputShape, batch_size: int, seed: int) -> Batch:
    """Return the input, ``float32 [batch_size, C, H, W]``."""
    if shape[0] not in (None, batch_size):
        raise UsageError(
            f"a file takes batches of {shape[0]} only, not {batch_size}", f"Give --batch {shape[0]}"
        )
    size = (batch_size, *(side or 1 for side in shape[1:]))
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
