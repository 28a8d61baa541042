"""Whether a classifier is better than chance, and whether it would be correct if it were used differently.

An accuracy near chance often has a cause: classes in another order, or pixels on another scale than in
training. Neither leaves a trace in a file of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.classification import wilson_interval

if TYPE_CHECKING:
    from torch import Tensor

    from imf_deploy.preprocess import Preprocess

Labels = Sequence[int] | npt.NDArray[np.integer]
Predict = Callable[["Tensor"], "Tensor | npt.NDArray[np.floating]"]
"""Network input ``float32 [N, C, H, W]`` -> logits ``[N, classes]``."""
_Classes = npt.NDArray[np.int64]
_Right = npt.NDArray[np.bool_]

Z99 = 2.575829
"""Two-sided 99 % quantile of the normal distribution."""
Z999 = 3.290527
"""The same for 99.9 %: several alternatives are tried, and the best one is tested."""
CLEAR_GAIN = 0.1
"""Minimum gain in accuracy of an alternative."""
_NEARLY = 0.02
_FEW_CLASSES = 5
"""With fewer, some order fits any network that distinguishes images, and a combination proves nothing."""
_BATCH = 64

_INPUTS: tuple[tuple[str, tuple[float, float, float], tuple[float, float, float], bool], ...] = (
    ("pixels from 0 to 255", (0.0,) * 3, (1 / 255,) * 3, False),
    ("pixels from 0 to 1", (0.0,) * 3, (1.0,) * 3, False),
    ("pixels from -1 to 1", (0.5,) * 3, (0.5,) * 3, False),
    ("ImageNet's mean and standard deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
    ("BGR channels from 0 to 255 less ImageNet's mean", (0.406, 0.456, 0.485), (1 / 255,) * 3, True),
)


@dataclass(frozen=True)
class Alternative:
    """Another way to use a classifier, which is clearly better.

    Attributes:
        name: For example ``pixels from 0 to 255`` or ``classes in reverse order``.
        correct: Number of correct images with it.
        images: Number of images that were tried.
    """

    name: str
    correct: int
    images: int

    def __str__(self) -> str:
        return f"with {self.name} it is right on {self.correct / self.images:.1%}"


def suspect(correct: int, images: int, labels: Labels) -> str:
    """Return why an accuracy is not evidence of any knowledge; empty if it is.

    It is suspect if its 99 % Wilson interval reaches the accuracy of always predicting the most frequent
    class, which is at least 1 / classes.

    Args:
        correct: Number of images whose largest logit is correct.
        images: Number of images that were tried.
        labels: The class of each of them, ``int [images]``.
    """
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    # Images of a single class prove nothing: one constant answer is correct for all of them.
    if images == 0 or len(counts) < 2:
        return ""
    chance = float(counts.max() / counts.sum())
    accuracy = correct / images
    if wilson_interval(accuracy, images, Z99)[0] > chance:
        return ""
    return f"{accuracy:.1%} of {images} images is not clearly better than chance ({chance:.1%})"


def clearly_better(right: _Right, before: _Right) -> bool:
    """Return whether answers are correct on ten points more of the same images, with significance.

    Args:
        right: Which answers are correct now, ``bool [N]``.
        before: Which answers were correct before.

    Source of the test: McNemar 1947, at 99.9 %.
    """
    gained, lost = int((right & ~before).sum()), int((before & ~right).sum())
    difference = gained - lost
    return difference >= max(CLEAR_GAIN * len(right), 1) and difference >= Z999 * float(
        np.sqrt(gained + lost)
    )


def alternatives(
    predict: Predict, images: Tensor, preprocess: Preprocess, labels: Labels
) -> Alternative | None:
    """Try other obvious ways to use a classifier; return the best one if it is clearly better.

    These are other scales of the pixels, BGR channels, inverted brightness, other orders of the classes
    (reversed, sorted in other ways, shifted by one, and any order that one half of the images shows and the
    other half confirms), and each of those scales with each of those orders.

    Args:
        predict: The classifier.
        images: ``uint8 [N, 1 or 3, S, S]``, as in a split of a data set.
        preprocess: The current preprocessing.
        labels: Their classes, ``int [N]``.
    """
    truth = np.asarray(labels, dtype=np.int64)
    before = _classes(predict, preprocess.normalize, images)
    if float((before == truth).mean()) > 1 - CLEAR_GAIN:
        return None
    candidates: list[tuple[int, _Right, str]] = []
    for changed, (name, prepare) in enumerate(_inputs(preprocess)):
        answers = _classes(predict, prepare, images) if changed else before
        if changed:
            candidates.append((1, answers == truth, name))
        if changed and preprocess.num_classes < _FEW_CLASSES:
            continue
        cost = 2 if changed else 1
        orders = _orders(preprocess.labels)
        candidates += [
            (cost, order[answers] == truth, _joined(name, order_name)) for order_name, order in orders
        ]
        if (learned := _learned(answers, truth, preprocess.num_classes)) is not None:
            candidates.append((cost + 1, learned, _joined(name, "classes in another order")))
    clear = [each for each in candidates if clearly_better(each[1], before == truth)]
    if not clear:
        return None
    best = max(int(right.sum()) for _, right, _ in clear)
    near = [each for each in clear if int(each[1].sum()) >= best - _NEARLY * len(truth)]
    _, right, name = min(near, key=lambda each: (each[0], -int(each[1].sum())))
    return Alternative(name, int(right.sum()), len(truth))


def why_suspect(
    predict: Predict, images: Tensor, preprocess: Preprocess, labels: Labels
) -> tuple[str, Alternative | None]:
    """Return why a classifier's accuracy is suspect, in words, and the likely cause if one is found.

    The words are empty if the accuracy is fine. See :func:`suspect` and :func:`alternatives`.
    """
    truth = np.asarray(labels, dtype=np.int64)
    correct = int((_classes(predict, preprocess.normalize, images) == truth).sum())
    reason = suspect(correct, len(truth), truth)
    alternative = alternatives(predict, images, preprocess, truth)
    if alternative:
        problem = reason or f"{correct / len(truth):.1%} of {len(truth)} images are right"
        return f"{problem}, but {alternative}", alternative
    return reason, None


def _joined(first: str, second: str) -> str:
    return f"{first} and {second}" if first else second


def _classes(predict: Predict, prepare: Callable[[Tensor], Tensor], images: Tensor) -> _Classes:
    """Return the class of the largest logit of each image, ``int64 [N]``."""
    import torch

    with torch.inference_mode():
        parts = [torch.as_tensor(predict(prepare(part))).cpu() for part in torch.split(images, _BATCH)]
        return np.asarray(torch.cat(parts).float().numpy().argmax(1), np.int64)


def _inputs(preprocess: Preprocess) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield the current way to prepare images, whose name is empty, and then others."""
    yield "", preprocess.normalize
    for name, *values, flipped in _INPUTS:
        mean, std = (value if preprocess.channels == 3 else _of_one(value) for value in values)
        if (mean, std) == (preprocess.mean, preprocess.std) or (flipped and preprocess.color == "L"):
            continue
        scale = replace(preprocess, mean=mean, std=std).normalize
        yield name, (_of_flipped(scale) if flipped else scale)
    if preprocess.color != "L":
        yield "BGR channels", _of_flipped(preprocess.normalize)
    yield "inverted brightness", lambda images: preprocess.normalize(255 - images)


def _of_one(values: tuple[float, float, float]) -> tuple[float]:
    """Return the value of one channel: the mean over three."""
    return (round(sum(values) / len(values), 6),)


def _of_flipped(prepare: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: prepare(images.flip(1))


def _orders(labels: tuple[str, ...]) -> Iterator[tuple[str, _Classes]]:
    """Yield other common orders of the classes, as the class that each output stands for."""
    own = range(len(labels))
    by_text = sorted(own, key=lambda i: labels[i])
    by_letter = sorted(own, key=lambda i: labels[i].casefold())
    by_number = sorted(own, key=lambda i: (_number(labels[i]), labels[i]))
    candidates = [
        ("classes in reverse order", list(reversed(own))),
        ("classes sorted as text", by_text),
        ("classes sorted as text, reversed", by_text[::-1]),
        ("classes sorted without regard to capitals", by_letter),
        ("classes sorted by number", by_number),
        ("classes sorted by number, reversed", by_number[::-1]),
        ("each output standing for the class before", [*own[-1:], *own[:-1]]),
        ("each output standing for the class after", [*own[1:], *own[:1]]),
    ]
    seen = [list(own)]
    for name, order in candidates:
        if order not in seen:
            seen.append(order)
            yield name, np.array(order, dtype=np.int64)


def _number(label: str) -> tuple[int, int]:
    digits = "".join(char for char in label if char in "0123456789")[:18]
    return (0, int(digits)) if digits else (1, 0)


def _learned(answers: _Classes, truth: _Classes, classes: int) -> _Right | None:
    """Return which answers are right in the order that the other half of the images shows.

    ``None`` if there are too few images for that: two of each class in each half are needed.
    """
    if len(truth) < 4 * classes:
        return None
    half = np.zeros(len(truth), dtype=bool)
    for index in range(classes):  # every other image of each class
        half[np.flatnonzero(truth == index)[::2]] = True
    right = np.zeros(len(truth), dtype=bool)
    for fitted in (half, ~half):
        counts = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(counts, (answers[fitted], truth[fitted]), 1)
        right[~fitted] = _assign(counts)[answers[~fitted]] == truth[~fitted]
    return right


def _assign(counts: npt.NDArray[np.int64]) -> _Classes:
    """Assign to each output its most frequent class, the surest first, each class once."""
    order = np.full(len(counts), -1)
    left = counts.copy()
    for _ in range(len(counts)):
        output, label = np.unravel_index(int(left.argmax()), left.shape)
        order[output] = label
        left[output], left[:, label] = -1, -1
    return order
