"""How an application uses a file, in sentences for people who write it in any language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imf_deploy.image_size import sides

if TYPE_CHECKING:
    from imf_deploy.preprocess import Preprocess

TENSORRT_ONLY = (
    "This file is for TensorRT alone. Other runtimes load it without complaint, and answer otherwise."
)


def usage(
    preprocess: Preprocess,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
) -> list[str]:
    """Return how images become the input of a file, and what its output means; empty if it is not known.

    Args:
        preprocess: How images become the network's input.
        inputs: Name to shape of each input.
        outputs: Name to shape of each output.
    """
    if len(inputs) != 1 or not outputs or preprocess.resize == "input":
        return []
    (name, shape), (result, answers) = next(iter(inputs.items())), next(iter(outputs.items()))
    return [
        f"The input '{name}' is float32 [{_text(shape)}]: image, channel, row, column.",
        *_pixels(preprocess),
        _scale(preprocess),
        f"The output '{result}' is float32 [{_text(answers)}]: a logit for each class, in the order of the "
        "labels. The class of the largest is the answer; a softmax turns them into probabilities.",
    ]


def _pixels(preprocess: Preprocess) -> list[str]:
    """Return how an image of any size becomes pixels of the network's size."""
    height, width = sides(preprocess.size)
    what = f"{width} pixels wide and {height} high"
    if preprocess.resize == "none":
        scaled = f"Images are {what}; others are refused."
    else:
        side = preprocess.resize_to
        until = (
            f"until its shorter side has {side} pixels"
            if height == width
            else f"until it covers {round(side * width / min(height, width))} x "
            f"{round(side * height / min(height, width))} pixels (width x height)"
        )
        scaled = (
            f"Each image is turned upright and scaled by a {preprocess.interpolation} filter with "
            f"antialiasing, as Pillow scales it, {until}. The middle of it, {what}, is the input."
        )
    if preprocess.color == "RGB":
        return [scaled, "The channels are red, green, blue."]
    copied = "; its channel is copied to all three" if preprocess.channels == 3 else ""
    return [scaled, f"Each image is grey, by the weights of ITU-R 601 (Pillow's mode L){copied}."]


def _scale(preprocess: Preprocess) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return (
        f"With pixels from 0 to 255, each value is (pixel / 255 - mean) / std, where mean is {mean} and std "
        f"is {std}{' (per channel)' if preprocess.channels > 1 else ''}."
    )


def _text(shape: Sequence[int | str]) -> str:
    return ", ".join(map(str, shape))
