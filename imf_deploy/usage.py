"""How an application uses a file, in sentences for people who write it in any language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imf_deploy.image_size import sides
from imf_deploy.settings.export import InterfaceSettings

if TYPE_CHECKING:
    from imf_deploy.preprocess import Preprocess

TENSORRT_ONLY = (
    "This file is for TensorRT alone. Other runtimes load it without complaint, and answer otherwise."
)


def usage(
    preprocess: Preprocess,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    interface: InterfaceSettings = InterfaceSettings(),  # noqa: B008, frozen
) -> list[str]:
    """Return how images become the input of a file, and what its output means; empty if it is not known.

    Args:
        preprocess: How images become the network's input.
        inputs: Name to shape of each input.
        outputs: Name to shape of each output.
        interface: What the file takes and returns.
    """
    if len(inputs) != 1 or not outputs or preprocess.resize == "input":
        return []
    ((name, shape),) = inputs.items()
    kind = "float32" if interface.input == "float" else "uint8"
    axes = "image, row, column, channel" if interface.input == "uint8-nhwc" else "image, channel, row, column"
    sentences = [f"The input '{name}' is {kind} [{_text(shape)}]: {axes}."]
    if interface.input_size == "any":
        sentences += ["The graph scales and crops images itself; those of one batch have one size."]
    else:
        sentences += [_pixels(preprocess)]
    sentences += [_channels(preprocess, interface)]
    sentences += [_scale(preprocess) if kind == "float32" else "Its values are pixels from 0 to 255."]
    return [*sentences, *_answers(outputs, interface)]


def _answers(outputs: Mapping[str, Sequence[int | str]], interface: InterfaceSettings) -> list[str]:
    """Return what the outputs mean."""
    (name, shape), *others = outputs.items()
    what = f"The output '{name}' is float32 [{_text(shape)}]: "
    if interface.head == "logits":
        return [
            f"{what}a logit for each class, in the order of the labels. The class of the largest is the "
            "answer; a softmax turns them into probabilities."
        ]
    if interface.head == "probabilities":
        return [f"{what}the probability of each class, in the order of the labels."]
    ((classes, size),) = others
    return [
        f"{what}the probabilities of the best classes, the most probable first.",
        f"The output '{classes}' is int64 [{_text(size)}]: the places of these classes among the labels.",
    ]


def _pixels(preprocess: Preprocess) -> str:
    """Return how an image of any size becomes pixels of the network's size."""
    height, width = sides(preprocess.size)
    what = f"{width} pixels wide and {height} high"
    if preprocess.resize == "none":
        return f"Images are {what}; others are refused."
    side, shorter = preprocess.resize_to, min(height, width)
    until = (
        f"until its shorter side has {side} pixels"
        if height == width
        else f"until it covers {round(side * width / shorter)} x {round(side * height / shorter)} pixels "
        "(width x height)"
    )
    return (
        f"Each image is turned upright and scaled by a {preprocess.interpolation} filter with antialiasing, "
        f"as Pillow scales it, {until}. The middle of it, {what}, is the input."
    )


def _channels(preprocess: Preprocess, interface: InterfaceSettings) -> str:
    if preprocess.color == "RGB":
        return "The channels are red, green, blue."
    copied = "; its channel is copied to all three" if preprocess.channels == 3 else ""
    return (
        "Each image is grey, by the weights of ITU-R 601 (Pillow's mode L)"
        f"{copied if interface.input == 'float' else ''}."
    )


def _scale(preprocess: Preprocess) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return (
        f"With pixels from 0 to 255, each value is (pixel / 255 - mean) / std, where mean is {mean} and std "
        f"is {std}{' (per channel)' if preprocess.channels > 1 else ''}."
    )


def _text(shape: Sequence[int | str]) -> str:
    return ", ".join(map(str, shape))
