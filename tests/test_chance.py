"""Accuracies compared with chance, and the causes that can be found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from imf_deploy.chance import Alternative, alternatives, clearly_better, suspect, why_suspect
from imf_deploy.preprocess import Preprocess

NAMES = ("1", "2", "3", "10", "11", "20")
HUES = torch.tensor(
    [[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 30], [30, 200, 200], [120, 60, 60]]
)
PREPROCESS = Preprocess(8, "none", 8, (0.3, 0.4, 0.5), (0.2, 0.25, 0.3), NAMES)


def pictures(count: int = 20) -> tuple[Tensor, Tensor]:
    """``uint8 [6 * count, 3, 8, 8]``, one noisy colour a class, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat(count)
    noise = torch.randn(len(labels), 3, 8, 8, generator=generator) * 20
    return (HUES[labels][:, :, None, None] + noise).clamp(0, 255).byte(), labels


class Expert:
    """Knows the classes of pictures that were prepared as ``own``, and puts them out in ``order``."""

    def __init__(self, own: Preprocess, order: list[int] | None = None, flip: bool = False) -> None:
        self.centres = own.normalize((HUES.flip(1) if flip else HUES)[:, :, None, None].byte())[:, :, 0, 0]
        self.order = order or list(range(6))

    def __call__(self, images: Tensor) -> Tensor:
        near = -torch.cdist(images.mean((2, 3)), self.centres)
        return near[:, self.order]


@pytest.mark.parametrize(
    ("correct", "images", "labels", "fine"),
    [
        (1, 64, list(range(8)) * 8, False),
        (8, 64, list(range(8)) * 8, False),
        (40, 64, list(range(8)) * 8, True),
        (70, 100, [0] * 70 + [1] * 30, False),  # always the most frequent class
        (95, 100, [0] * 70 + [1] * 30, True),
        (3, 4, [0, 1, 0, 1], False),
        (2, 9, [4] * 9, True),  # a single class: nothing can be said
        (0, 0, [], True),
    ],
)
def test_chance(correct: int, images: int, labels: list[int], fine: bool) -> None:
    assert (suspect(correct, images, labels) == "") == fine


def test_the_words() -> None:
    assert suspect(1, 40, [0, 1] * 20) == "2.5% of 40 images is not clearly better than chance (50.0%)"


def test_better_beyond_doubt() -> None:
    yes, no = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    some = np.arange(40) < 3
    assert clearly_better(yes, no)
    assert not clearly_better(no, yes)
    assert not clearly_better(some, no)  # less than ten points
    assert not clearly_better(np.arange(10) < 5, np.zeros(10, dtype=bool) | (np.arange(10) > 8))  # too few


@pytest.mark.parametrize(
    ("expert", "name"),
    [
        (Expert(PREPROCESS, [5, 4, 3, 2, 1, 0]), "classes in reverse order"),
        (Expert(PREPROCESS, [0, 3, 4, 1, 5, 2]), "classes sorted as text"),
        (Expert(PREPROCESS, [5, 0, 1, 2, 3, 4]), "each output standing for the class before"),
        (Expert(PREPROCESS, [2, 5, 0, 4, 1, 3]), "classes in another order"),
        (
            Expert(replace(PREPROCESS, mean=(0.0,) * 3, std=(1 / 255,) * 3)),
            "pixels from 0 to 255",
        ),
        (
            Expert(replace(PREPROCESS, mean=(0.0,) * 3, std=(1 / 255,) * 3), [5, 4, 3, 2, 1, 0]),
            "pixels from 0 to 255 and classes in reverse order",
        ),
        (Expert(PREPROCESS, flip=True), "BGR channels"),
    ],
)
def test_a_cause_is_found(expert: Expert, name: str) -> None:
    images, labels = pictures()
    found = alternatives(expert, images, PREPROCESS, labels.numpy())
    assert found is not None
    assert found.name == name
    assert found.images == 120
    assert found.correct > 100


def test_a_good_classifier_and_one_that_guesses() -> None:
    images, labels = pictures()
    assert why_suspect(Expert(PREPROCESS), images, PREPROCESS, labels.numpy()) == ("", None)
    generator = torch.Generator().manual_seed(1)
    reason, cause = why_suspect(
        lambda x: torch.randn(len(x), 6, generator=generator), images, PREPROCESS, labels.numpy()
    )
    assert "not clearly better than chance (16.7%)" in reason
    assert cause is None


def test_numpy_logits_and_the_words_of_a_cause() -> None:
    images, labels = pictures()
    expert = Expert(PREPROCESS, [5, 4, 3, 2, 1, 0])
    reason, cause = why_suspect(lambda x: expert(x).numpy(), images, PREPROCESS, labels.numpy())
    assert isinstance(cause, Alternative)
    assert reason.startswith(
        "0.0% of 120 images is not clearly better than chance (16.7%), but with classes in"
    )
    assert "reverse order it is right on" in reason


def test_grey_pictures() -> None:
    grey = replace(PREPROCESS, color="L", labels=("dark", "middle", "light"))
    labels = torch.arange(3).repeat(30)
    images = (labels * 100 + 20).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).byte().contiguous()
    centres = grey.normalize(torch.tensor([235, 135, 35]).view(-1, 1, 1, 1).byte())[:, 0, 0, 0]

    def inverted(inputs: Tensor) -> Tensor:
        return -(inputs[:, 0].mean((1, 2))[:, None] - centres).abs()

    found = alternatives(inverted, images, grey, labels.numpy())
    assert found is not None
    assert found.name in ("inverted brightness", "classes in reverse order")
    assert found.correct == 90


def test_a_network_of_one_channel() -> None:
    own = Preprocess(8, "none", 8, (0.449,), (0.226,), ("a", "b", "c"), "L")
    labels = torch.arange(3).repeat(20)
    images = (60 + 60 * labels).byte()[:, None, None, None].expand(-1, 1, 8, 8)
    bounds = torch.tensor([90.0, 150.0])

    def predict(batch: Tensor) -> Tensor:  # pixels from 0 to 255
        assert batch.shape[1:] == (1, 8, 8)
        return torch.nn.functional.one_hot(torch.bucketize(batch.mean((1, 2, 3)), bounds), 3).float()

    reason, found = why_suspect(predict, images, own, labels.numpy())
    assert "pixels from 0 to 255" in reason
    assert found
    assert found.correct == 60
