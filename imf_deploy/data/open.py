"""Open a data set by name or path, and derive its splits and its ``Preprocess``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imf_deploy import defaults
from imf_deploy.data.dataset import DataSet, hold_out
from imf_deploy.data.folder import open_folder
from imf_deploy.data.named import NAMED, open_named
from imf_deploy.data.shards import are_shards, open_shards
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import fingerprint

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is divided.

    Attributes:
        data: ``fashion-mnist-subset`` (embedded), ``fashion_mnist``, ``cifar10``, ``cifar100``, the
            path of a folder of pictures, or WebDataset shards such as ``train-{000..009}.tar``.
        root: Where torchvision's data sets lie or are downloaded to.
        image_size: Side of the network's input in pixels; 0 derives it (folders only).
        validation_fraction: Part of the training data that is held out to choose by.
        seed: Seed of every hold-out.
    """

    data: str = defaults.DATA
    root: str = ""
    image_size: int = 0
    validation_fraction: float = defaults.VAL_FRACTION
    seed: int = 0


def open_data(config: DataConfig) -> DataSet:
    """Open a data set and hold out what is missing.

    The validation split is held out of the training data unless a folder brings its own; a folder
    without a test part gets a stratified, seeded one, and ``notes`` says so.

    Raises:
        UsageError: no such name or folder.
        ImfDeployError: the data cannot be used (no images, one class, a corrupt picture …).
    """
    if not 0 <= config.validation_fraction < 1:
        raise UsageError("--val-fraction must be at least 0 and below 1")
    if is_named(config.data):
        if config.image_size:
            raise UsageError(f"--image-size does not go with --data {config.data}", "Leave it out")
        data = open_named(config.data, config.root)
    elif are_shards(config.data):
        data = open_shards(config.data, config.image_size)
    elif Path(config.data).is_dir():
        data = open_folder(Path(config.data), config.image_size)
    else:
        raise UsageError(
            f"--data {config.data} is neither a folder nor a known data set",
            "Give a folder with train/CLASS/*.png, shards such as 'train-{000..009}.tar', or one of: "
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
    splits = [len(part) for part in (data.train, data.validation, data.test)]
    described = asdict(config) | {"data": data.name, "root": "", "splits": splits}
    return replace(data, fingerprint=fingerprint([data.fingerprint, described]), config=asdict(config))


def is_named(data: str) -> bool:
    """Return whether ``--data`` names a data set, whose pictures have one size, and not files."""
    return data in NAMED or data == defaults.DATA


def reopen_data(config: dict[str, Any], data: str = "", root: str = "") -> DataSet:
    """Open the data that a file's record names, wherever it lies now.

    Args:
        config: ``data_config`` of the record.
        data: Another name or path; empty keeps the recorded one. A named data set has a size of its own.
        root: Another root; empty keeps the recorded one.

    Raises:
        ImfDeployError: the record is damaged, or the data cannot be opened.
    """
    plain = asdict(DataConfig())
    for name, value in config.items():
        wanted = type(plain.get(name))
        # A whole number is a fraction too.
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            raise ImfDeployError(f"the record of the data is damaged ('{name}')", "Distil again")
    known = DataConfig(**config)
    size = 0 if is_named(data) else known.image_size
    return open_data(replace(known, data=data or known.data, root=root or known.root, image_size=size))
