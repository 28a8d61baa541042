"""Labelled images for finished files: the images to judge by, prepared for each file, classes by name."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imf_deploy.compat import usable_cpus
from imf_deploy.data import DataSet, Split, eval_batches, open_data, reopen_data, settings_for
from imf_deploy.data.dataset import EncodedImages, MemoryImages
from imf_deploy.errors import UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import track
from imf_deploy.runners.base import Logits
from imf_deploy.serving.classifier import BATCH, Classifier
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.untrusted import shorten

_SHOWN = 5
"""Maximum number of names that a message lists."""


@dataclass(frozen=True)
class Judged:
    """Labelled images on which files are judged.

    Attributes:
        name: Name of the data.
        split: The images.
        preprocess: How ``split`` prepares them; its labels are the classes of ``split``.
        notes: Decisions made for the user.
    """

    name: str
    split: Split
    preprocess: Preprocess
    notes: tuple[str, ...] = ()

    def image_name(self, index: int) -> str:
        """Return the file of an image, or its number where it has none."""
        position = int(self.split.positions[index])
        pictures = getattr(self.split.source, "pictures", None)
        return f"image {position}" if pictures is None else str(pictures.name(position))

    def labels_for(self, preprocess: Preprocess, path: object) -> npt.NDArray[np.int64]:
        """Return the class of every image as a number of a file's classes, ``int64 [N]``; names decide.

        Args:
            preprocess: That of the file, with its labels.
            path: The file, for messages.

        Raises:
            UsageError: an image has a class that the file does not know, or knows twice.
        """
        own = [_normal(label) for label in preprocess.labels]
        counts = Counter(own)
        present = sorted(set(self.split.labels.tolist()))
        names = {number: _normal(self.preprocess.labels[number]) for number in present}
        if unknown := [name for name in names.values() if not counts[name]]:
            raise UsageError(
                f"{len(unknown)} of {len(names)} classes of {self.name} are not classes of {path}: "
                f"{_some(unknown)}; its classes are {_some(preprocess.labels)}",
                "Rename the class folders, or give `labels` with the names that the file uses",
            )
        if twice := [name for name in names.values() if counts[name] > 1]:
            raise UsageError(
                f"{path} has several classes called {_some(twice)}", "Give its classes different names"
            )
        numbers = np.zeros(len(self.preprocess.labels), np.int64)
        for number, name in names.items():
            numbers[number] = own.index(name)
        chosen: npt.NDArray[np.int64] = numbers[self.split.labels.numpy()]
        return chosen

    def prepared_for(self, classifier: Classifier) -> Split:
        """Return the images as a file prepares them.

        Raises:
            UsageError: they are only known as pixels that are prepared otherwise.
        """
        wanted = classifier.preprocess
        if _pixels(wanted) == _pixels(self.preprocess):
            return self.split
        source = self.split.source
        pictures = source.pictures if isinstance(source, EncodedImages | MemoryImages) else None
        if pictures is None:
            raise UsageError(
                f"{self.name} has images of {_told(self.preprocess)}, but {classifier.path} takes "
                f"{_told(wanted)}",
                "Use `data` with a folder of image files",
            )
        again = EncodedImages(pictures, source.labels, wanted, usable_cpus(), source.marks)
        return replace(self.split, source=again)

    def logits(self, classifier: Classifier) -> Logits:
        """Run a file on all images; return ``float32 [N, classes]``.

        Raises:
            UsageError: the images cannot be prepared for the file, or its outputs are not those of a
                classifier.
            DeviceError: this machine lacks the device of the file.
            ImfDeployError: the file does not load or run.
        """
        split, outputs = self.prepared_for(classifier), []
        with (
            classifier.open() as session,
            track(f"Running {classifier.path.name}", len(split)) as advance,
        ):
            for images, _ in eval_batches(split, classifier.preprocess, classifier.batch or BATCH):
                outputs.append(session.answers(images.numpy()))
                advance(len(images))
        return np.concatenate(outputs)


def open_judged(classifier: Classifier, place: PlaceSettings, split: str = "") -> Judged:
    """Open the labelled images that a user names, or those that a file's record names.

    Without a test split of their own, all images are used, unless they are the data of the file's training:
    then the recorded test split is.

    Args:
        classifier: The file.
        place: Where the data is.
        split: ``train``, ``validation`` or ``test``; if empty, see above.

    Raises:
        UsageError: neither names data, or there are no such images.
        ImfDeployError: the data cannot be used.
    """
    own = classifier.preprocess
    known = classifier.record.data_config
    if place.data and not _is_recorded(place.data, known):
        config = settings_for(own, place.data, place.data_root, place.labels)
        data = open_data(config, complete=bool(split))
        whole = not len(data.test)
    elif known:
        data, whole = reopen_data(known, "", place.data_root, place.labels), False
    else:
        raise UsageError(f"the record of {classifier.path} does not name data", "Give `data`")
    notes = data.notes
    if whole:
        chosen = data.train
        notes = (
            *notes,
            f"There is no test split: all {len(chosen)} images are used. If the file was trained on some of "
            "them, the results are too good",
        )
    else:
        chosen = _named(data, split or "test")
    return Judged(data.name, chosen, data.preprocess, notes)


def _named(data: DataSet, name: str) -> Split:
    chosen = {"train": data.train, "validation": data.validation, "test": data.test}[name]
    if not len(chosen):
        raise UsageError(f"{data.name} has no {name} images", "Use another `split`")
    return chosen


def _is_recorded(data: str, known: dict[str, object] | None) -> bool:
    """Return whether a path is that of the recorded data."""
    recorded = (known or {}).get("data")
    if not isinstance(recorded, str) or "\0" in data + recorded:
        return False
    return data == recorded or os.path.realpath(data) == os.path.realpath(recorded)


def _pixels(preprocess: Preprocess) -> tuple[object, ...]:
    """Return what decides the pixels of a prepared image; normalisation follows."""
    own = preprocess
    return own.size, own.resize, own.resize_to, own.color, own.interpolation


def _told(preprocess: Preprocess) -> str:
    channels, height, width = preprocess.shape
    return f"{height}x{width} pixels in {channels} channel(s) ({preprocess.resize})"


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _some(names: Iterable[str]) -> str:
    listed = [shorten(name, 60) for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
