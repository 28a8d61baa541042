"""Classify images by a file: the most probable classes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.runners.base import Logits
from imf_deploy.serving.classifier import BATCH, Classifier, Session
from imf_deploy.serving.images import Image, load_images
from imf_deploy.tasks.answers import log_softmax


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        image: The image.
        classes: Names of the most probable classes, the most probable first.
        probabilities: Their probabilities, from 0 to 1.
    """

    image: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict(
    classifier: Classifier, images: Iterable[Path], top: int
) -> Iterator[Prediction | ImfDeployError]:
    """Yield the answer for every image in order, or the error of one that cannot be used.

    Of equal logits, that of the earlier class counts as the larger one.

    Args:
        classifier: The file.
        images: Image files.
        top: Maximum number of classes of an answer.

    Raises:
        UsageError: the file's outputs are not those of a classifier, or none of the first images can be used.
        DeviceError: this machine lacks the device of the file.
        ImfDeployError: the file does not load or run.
    """
    loaded: list[tuple[Path, Image | ImfDeployError]] = []
    seen = usable = 0
    with classifier.open() as session:
        for pair in load_images(images, classifier.preprocess):
            loaded.append(pair)
            seen, usable = seen + 1, usable + (not isinstance(pair[1], ImfDeployError))
            if seen == BATCH and not usable and isinstance(pair[1], ImfDeployError):
                raise UsageError(
                    f"none of the first {BATCH} images can be used: {pair[1].what}",
                    "Check the images, and the preprocessing of the file",
                )
            if len(loaded) == BATCH:
                yield from _answers(classifier, session, loaded, top)
                loaded.clear()
        yield from _answers(classifier, session, loaded, top)


def _answers(
    classifier: Classifier, session: Session, loaded: list[tuple[Path, Image | ImfDeployError]], top: int
) -> Iterator[Prediction | ImfDeployError]:
    usable = [image for _, image in loaded if not isinstance(image, ImfDeployError)]
    rows: Iterator[Logits] = iter(session.logits(np.stack(usable)) if usable else ())
    names = classifier.preprocess.labels
    for path, image in loaded:
        if isinstance(image, ImfDeployError):
            yield image
            continue
        logits = next(rows)
        if not np.isfinite(logits).all():
            yield ImfDeployError(f"{classifier.path} answers with logits that are not finite for {path}")
            continue
        chosen = np.argsort(-logits, kind="stable")[:top]
        sure = np.exp(log_softmax(logits[None]))[0]
        yield Prediction(path, tuple(names[i] for i in chosen), tuple(float(sure[i]) for i in chosen))
