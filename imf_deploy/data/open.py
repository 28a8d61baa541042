"""Open a data set by name or path, and derive its splits and its ``Preprocess``."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from imf_deploy.data.dataset import DataSet, hold_out
from imf_deploy.data.folder import open_folder
from imf_deploy.data.labelled import open_labels, open_metadata
from imf_deploy.data.named import NAMED, open_named
from imf_deploy.data.overlap import overlap_notes
from imf_deploy.data.shards import are_shards, open_shards
from imf_deploy.data.unlabelled import open_unlabelled
from imf_deploy.data.walk import exists
from imf_deploy.errors import ImfDeployError, UsageError, visible
from imf_deploy.files import fingerprint
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import DataSettings
from imf_deploy.settings.base import from_record
from imf_deploy.settings.data import EMBEDDED
from imf_deploy.untrusted import printable, shorten

TEST_FRACTION = 0.2


_SINCE: dict[str, Any] = {
    "mean": None,
    "std": None,
    "interpolation": None,
    "crop_fraction": None,
    "starting": None,
    "channels": 3,
}
"""Fields that were added to the settings, with the value at which the fingerprint is as it was before."""
_APART = ("labels", "unlabelled")
"""Fields that it leaves out: the data set's own holds the labels; a distillation's, the unlabelled images."""


def _check(config: DataSettings) -> None:
    """Refuse paths that could not be written into a record later."""
    # A relative path is recorded as it is, but the folder's own name is the name of the data set.
    for path in (
        config.data,
        config.data_root,
        config.labels,
        config.unlabelled,
        os.path.realpath(config.data) if "\0" not in config.data else "",
    ):
        if printable(path) != path:
            raise UsageError(
                f"the path {printable(path)} is not UTF-8", "Rename the folder, or use a link to it"
            )


def open_data(config: DataSettings, download: bool = True, complete: bool = True) -> DataSet:
    """Open a data set and hold out the missing splits.

    The validation split is held out of the training data unless a folder contains one. For a folder without a
    test split, a stratified, seeded one is held out, and ``notes`` reports it.

    Args:
        config: Which data.
        download: Whether a named data set that is not in its root is downloaded there.
        complete: Whether missing splits are held out; otherwise they are left empty.

    Raises:
        UsageError: there is no such name or folder, or options are out of their bounds.
        ImfDeployError: the data cannot be used (no images, one class, a corrupt image …).
    """
    _check(config)
    data = _open(config, download)
    labels = data.preprocess.labels
    if complete and len(data.test) == 0:
        rest, test = hold_out(data.train, TEST_FRACTION, config.split_seed, labels)
        note = (
            f"There is no test split: {len(test)} of {len(data.train)} images were held out for it "
            f"({TEST_FRACTION:.0%} of every class, seed {config.split_seed})"
        )
        data = replace(data, train=rest, test=test, notes=(*data.notes, note))
    if complete and len(data.validation) == 0 and config.val_fraction > 0:
        train, validation = hold_out(data.train, config.val_fraction, config.split_seed, labels)
        data = replace(data, train=train, validation=validation)
    if config.unlabelled:
        unlabelled, found = open_unlabelled(Path(config.unlabelled), data.preprocess)
        data = replace(data, unlabelled=unlabelled, notes=(*data.notes, *found))
    notes = tuple(visible(printable(note)) for note in (*data.notes, *overlap_notes(data)))
    splits = [len(part) for part in (data.train, data.validation, data.test)]
    config = _resolved(config, data.preprocess)
    described = asdict(config) | {"data": data.name, "data_root": "", "splits": splits}
    hashed = {
        name: value
        for name, value in described.items()
        if name not in _APART and (name not in _SINCE or value != _SINCE[name])
    }
    known = fingerprint([data.fingerprint, hashed])
    recorded = asdict(config)
    del recorded["starting"]
    return replace(data, notes=notes, fingerprint=known, config=recorded)


def _open(config: DataSettings, download: bool) -> DataSet:
    """Open a data set with the splits that it has."""
    folder = Path(config.data)
    labelled = bool(config.labels) and exists(folder, Path.is_dir) and not is_named(config.data)
    if config.labels and not labelled and (is_named(config.data) or are_shards(config.data)):
        raise UsageError(
            f"`labels` {shorten(config.labels)} is for a folder of images, but `data` {shorten(config.data)} "
            "has labels of its own",
            "Use `data` with the folder that the table's paths are relative to",
        )
    if labelled:
        return open_labels(folder, Path(config.labels), config)
    if is_named(config.data):
        for option in ("image_size", "interpolation", "crop_fraction"):
            if getattr(config, option):
                raise UsageError(f"`{option}` cannot be combined with `data` {config.data}", "Leave it out")
        data = open_named(config.data, config.data_root, download, config.channels)
        prepared = data.preprocess
        mean, std = prepared.mean, prepared.std
        if config.starting:
            mean, std = config.starting.for_channels(config.channels)
        return replace(data, preprocess=replace(prepared, mean=config.mean or mean, std=config.std or std))
    if are_shards(config.data):
        return open_shards(config.data, config)
    if exists(folder, Path.is_dir):
        return open_metadata(folder, config) or open_folder(folder, config)
    raise UsageError(
        f"`data` {shorten(config.data)} is neither a folder nor a known data set",
        "Use a folder with train/CLASS/*.png, shards such as 'train-{000..009}.tar', or one of: "
        + ", ".join([EMBEDDED, *NAMED]),
    )


def _resolved(config: DataSettings, preprocess: Preprocess) -> DataSettings:
    """Return settings that prepare images in the same way without the weights that a training starts from."""
    if config.starting is None:
        return config
    own = replace(config, starting=None, mean=preprocess.mean, std=preprocess.std)
    if is_named(config.data):
        return own
    prepared = preprocess.preparation or config.starting
    return replace(
        own,
        image_size=prepared.size,
        interpolation=prepared.interpolation,
        crop_fraction=prepared.crop_fraction,
    )


def recorded_data(content: Any) -> DataSettings:
    """Read the ``data_config`` of a record, which may come from an untrusted source.

    Raises:
        ImfDeployError: a field is unknown, has another type, or is out of its bounds.
    """
    try:
        return from_record(DataSettings, {"data": ""} | (content if isinstance(content, dict) else {}))
    except ImfDeployError as error:
        raise ImfDeployError(f"the record of the data is damaged ({error.what})", "Distil again") from error


def is_named(data: str) -> bool:
    """Return whether ``data`` names a data set, whose images have one size, and not files."""
    return data in NAMED or data == EMBEDDED


def settings_for(preprocess: Preprocess, data: str, root: str = "", labels: str = "") -> DataSettings:
    """Return settings that open data as the input of a known network; a named data set has its own size."""
    size = 0 if is_named(data) else preprocess.size
    config = DataSettings(data, labels=labels, data_root=root, image_size=size, channels=preprocess.channels)
    return _resolved(replace(config, starting=preprocess.preparation), preprocess)


def reopen_data(config: Any, data: str = "", root: str = "", labels: str = "") -> DataSet:
    """Open the data that a file's record names, even if it was moved.

    A record never causes a download: only data that the caller names is downloaded. Unlabelled images are
    not opened.

    Args:
        config: ``data_config`` of the record.
        data: Another name or path; if empty, the recorded one. A named data set has its own image size and
            labels.
        root: Another root; if empty, the recorded one.
        labels: Another table of labels; if empty, the recorded one, which moves with a folder that holds it.

    Raises:
        ImfDeployError: the record is damaged, or the data cannot be opened.
    """
    known = recorded_data(config)
    chosen = replace(
        known,
        data=data or known.data,
        data_root=root or known.data_root,
        labels=labels or _moved(known, data),
        unlabelled="",
    )
    if is_named(data):
        chosen = replace(chosen, image_size=0, interpolation=None, crop_fraction=None)
    return open_data(chosen, download=bool(data))


def _moved(known: DataSettings, data: str) -> str:
    """Return the path of a recorded table of labels: if it was in the folder, it is in the new one."""
    if not data or not known.labels:
        return known.labels
    if not exists(Path(data), Path.is_dir):
        return ""  # other data has its own labels
    table, folder = Path(known.labels), Path(known.data)
    return str(Path(data) / table.relative_to(folder)) if table.is_relative_to(folder) else known.labels
