"""Whether the float model is better than guessing on the data that it is calibrated with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from imf_deploy.calib.images import choose_images
from imf_deploy.calib.model import FloatModel
from imf_deploy.chance import alternatives, suspect
from imf_deploy.data import Split
from imf_deploy.ladder import Array
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = 256
"""Validation images that other ways to use the model are tried on."""


def doubt(model: FloatModel, validation: Split, reference: Array, seed: int) -> str:
    """Return why the accuracy of a model is no evidence that it is used rightly; empty where it is.

    Other orders of the classes and other preprocessing are tried for files without a record: a file of
    this tool keeps both.

    Args:
        model: The float model.
        validation: Images that it was run on.
        reference: Its logits on them, ``[N, classes]``.
        seed: Of the choice of :data:`IMAGES` images.
    """
    labels = validation.labels.numpy()
    right = int((reference.argmax(1) == labels).sum())
    reason = suspect(right, len(labels), labels)
    if model.artifact.parent:
        return reason
    images = choose_images(validation, min(IMAGES, len(validation)), seed)
    pixels = images.fetch(torch.arange(len(images)))
    with OnnxRuntimeRunner(
        model.artifact.path, classes=model.preprocess.num_classes, logits=model.logits
    ) as runner:

        def predict(batch: Tensor) -> Array:
            values = np.ascontiguousarray(batch.numpy())
            parts = [values] if model.free_batch else np.split(values, len(values))
            return np.concatenate([runner.infer(part) for part in parts])

        better = alternatives(predict, pixels, model.preprocess, images.labels.numpy())
    if not better:
        return reason
    return f"{reason or f'{right / len(labels):.1%} of {len(labels)} images are right'}, but {better}"
