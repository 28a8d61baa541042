"""Whether a network is better than chance on the data that a file is judged on."""

from collections.abc import Callable

import torch
from torch import Tensor

from imf_deploy.chance import alternatives, suspect
from imf_deploy.data import Split
from imf_deploy.data.choice import choose_images
from imf_deploy.preprocess import Preprocess
from imf_deploy.verification.ladder import Array

IMAGES = 256
"""Maximum number of images that other ways to use the network are tried on."""


def doubt(
    logits: Array,
    split: Split,
    preprocess: Preprocess,
    predict: Callable[[Tensor], Tensor | Array] | None = None,
) -> str:
    """Return why an accuracy is not evidence that a network is used correctly; empty if it is.

    Args:
        logits: Logits of the network on the split, ``[N, classes]``.
        split: The images.
        preprocess: Preprocessing of the images.
        predict: The network, for trying other orders of the classes and other preprocessing on up to
            :data:`IMAGES` images; with ``None``, only the accuracy is judged.
    """
    labels = split.labels.numpy()
    right = int((logits.argmax(1) == labels).sum())
    reason = suspect(right, len(labels), labels)
    if predict is None:
        return reason
    images = choose_images(split, min(IMAGES, len(split)), 0)
    pixels = images.fetch(torch.arange(len(images)))
    better = alternatives(predict, pixels, preprocess, images.labels.numpy())
    if not better:
        return reason
    return f"{reason or f'{right / len(labels):.1%} of {len(labels)} images are right'}, but {better}"
