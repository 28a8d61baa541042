"""Open a data set by name or path, and derive its splits and its ``Preprocess``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imf_deploy import defaults
from imf_deploy.data.classes import printable
from imf_deploy.data.dataset import DataSet, hold_out
from imf_deploy.data.folder import open_folder
from imf_deploy.data.named import NAMED, open_named
from imf_deploy.data.overlap import overlap_notes
from imf_deploy.data.shards import are_shards, open_shards
from imf_deploy.data.walk import exists
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import fingerprint
from imf_deploy.limits import LARGEST_NUMBER, LARGEST_SIDE
from imf_deploy.untrusted import shorten, visible

TEST_FRACTION = 0.2
LONGEST_PATH = 1 << 20
"""Maximum number of characters of ``--data``; a list of a thousand shards fits."""


@dataclass(frozen=True)
class DataConfig:
    """Selects the data and how it is divided.

    Attributes:
        data: ``fashion-mnist-subset`` (embedded), ``fashion_mnist``, ``cifar10``, ``cifar100``, the
            path of a folder of images, or WebDataset shards such as ``train-{000..009}.tar``.
        root: Folder that torchvision's data sets are in or are downloaded to.
        image_size: Side of the network's input in pixels; 0 derives it (folders only).
        validation_fraction: Fraction of the training data that is held out for validation.
        seed: Seed of every hold-out.
    """

    data: str = defaults.DATA
    root: str = ""
    image_size: int = 0
    validation_fraction: float = defaults.VAL_FRACTION
    seed: int = 0

    @classmethod
    def from_record(cls, content: Any) -> DataConfig:
        """Read the ``data_config`` of a record, which may be untrusted.

        Raises:
            ImfDeployError: a field is unknown, has another type, or is out of its bounds.
        """
        fields = content if isinstance(content, dict) else {}
        plain = asdict(cls())
        # A whole number is also valid as a fraction.
        types: dict[str, Any] = {name: type(value) for name, value in plain.items()} | {
            "validation_fraction": int | float
        }
        bad = [
            name
            for name, value in fields.items()
            if name not in plain or not isinstance(value, types[name]) or isinstance(value, bool)
        ]
        if not bad:
            bad = [] if fields.get("data") else ["data"]
        if not bad:
            config = cls(**fields)
            bad = [name for name, holds in _bounds(config).items() if not holds]
        if bad:
            raise ImfDeployError(
                f"the record of the data is damaged ('{shorten(str(bad[0]), 40)}')", "Distil again"
            )
        return config


def _bounds(config: DataConfig) -> dict[str, bool]:
    """Return whether each field is within its bounds."""
    return {
        "data": len(config.data) <= LONGEST_PATH,
        "root": len(config.root) <= LONGEST_PATH,
        "image_size": 0 <= config.image_size <= LARGEST_SIDE,
        "validation_fraction": 0 <= config.validation_fraction < 1,
        "seed": abs(config.seed) <= LARGEST_NUMBER,
    }


def _check(config: DataConfig) -> None:
    """Refuse options that cannot be used, or could not be written into a record later."""
    holds = _bounds(config)
    if not holds["data"] or not holds["root"]:
        raise UsageError(f"--data or --data-root is longer than {LONGEST_PATH:,} characters")
    if not holds["image_size"]:
        raise UsageError(f"--image-size must be from 0 to {LARGEST_SIDE}")
    if not holds["validation_fraction"]:
        raise UsageError("--val-fraction must be at least 0 and below 1")
    if not holds["seed"]:
        raise UsageError("--split-seed must have less than 64 bits")
    # A relative path is recorded unchanged, but the folder's own name is the name of the data set.
    for path in (config.data, config.root, os.path.realpath(config.data) if "\0" not in config.data else ""):
        if printable(path) != path:
            raise UsageError(
                f"the path {printable(path)} is not UTF-8", "Rename the folder, or use a link to it"
            )


def open_data(config: DataConfig, download: bool = True) -> DataSet:
    """Open a data set and hold out the missing splits.

    The validation split is held out of the training data unless a folder contains one. For a folder without a
    test split, a stratified, seeded one is held out, and ``notes`` reports it.

    Args:
        config: Which data.
        download: Whether a named data set that is not in its root is downloaded there.

    Raises:
        UsageError: there is no such name or folder, or options are out of their bounds.
        ImfDeployError: the data cannot be used (no images, one class, a corrupt image …).
    """
    _check(config)
    if is_named(config.data):
        if config.image_size:
            raise UsageError(f"--image-size cannot be combined with --data {config.data}", "Leave it out")
        data = open_named(config.data, config.root, download)
    elif are_shards(config.data):
        data = open_shards(config.data, config.image_size)
    elif exists(Path(config.data), Path.is_dir):
        data = open_folder(Path(config.data), config.image_size)
    else:
        raise UsageError(
            f"--data {shorten(config.data)} is neither a folder nor a known data set",
            "Use a folder with train/CLASS/*.png, shards such as 'train-{000..009}.tar', or one of: "
            + ", ".join([defaults.DATA, *NAMED]),
        )
    labels = data.preprocess.labels
    if len(data.test) == 0:
        rest, test = hold_out(data.train, TEST_FRACTION, config.seed, labels)
        note = (
            f"There is no test split: {len(test)} of {len(data.train)} images were held out for it "
            f"({TEST_FRACTION:.0%} of every class, seed {config.seed})"
        )
        data = replace(data, train=rest, test=test, notes=(*data.notes, note))
    if len(data.validation) == 0 and config.validation_fraction > 0:
        train, validation = hold_out(data.train, config.validation_fraction, config.seed, labels)
        data = replace(data, train=train, validation=validation)
    notes = tuple(visible(printable(note)) for note in (*data.notes, *overlap_notes(data)))
    data = replace(data, notes=notes)
    splits = [len(part) for part in (data.train, data.validation, data.test)]
    described = asdict(config) | {"data": data.name, "root": "", "splits": splits}
    return replace(data, fingerprint=fingerprint([data.fingerprint, described]), config=asdict(config))


def is_named(data: str) -> bool:
    """Return whether ``--data`` names a data set, whose images have one size, and not files."""
    return data in NAMED or data == defaults.DATA


def reopen_data(config: Any, data: str = "", root: str = "") -> DataSet:
    """Open the data that a file's record names, even if it was moved.

    A record never causes a download: only data that the caller names is downloaded.

    Args:
        config: ``data_config`` of the record.
        data: Another name or path; if empty, the recorded one. A named data set has its own image size.
        root: Another root; if empty, the recorded one.

    Raises:
        ImfDeployError: the record is damaged, or the data cannot be opened.
    """
    known = DataConfig.from_record(config)
    size = 0 if is_named(data) else known.image_size
    chosen = replace(known, data=data or known.data, root=root or known.root, image_size=size)
    return open_data(chosen, download=bool(data))
