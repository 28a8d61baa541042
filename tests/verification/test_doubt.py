"""A network that tells the colours apart by their channels is in doubt only where it is used wrongly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import logits_of
from imf_deploy.verification.doubt import doubt


def channels(images: Tensor) -> Tensor:
    """The three classes are red, green and blue."""
    return images.mean((2, 3))


def reverse(images: Tensor) -> Tensor:
    return channels(images).flip(1)


def logits(predict: object, data: DataSet) -> np.ndarray:
    return logits_of(predict, data.test, data.preprocess, torch.device("cpu")).numpy()  # type: ignore[arg-type]


def test_right_and_wrong_use(data: DataSet) -> None:
    assert doubt(logits(channels, data), data.test, data.preprocess, channels) == ""
    told = doubt(logits(reverse, data), data.test, data.preprocess, reverse)
    assert told.startswith("33.3% of 18 images is not clearly better than chance (33.3%), but with ")
    alone = doubt(logits(reverse, data), data.test, data.preprocess)
    assert alone == "33.3% of 18 images is not clearly better than chance (33.3%)"
