"""Settings of the data: which data set, and how it is split."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.image_size import CHANNELS, check_image_size, read_size, short_size, size_text
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.settings.base import Part, Text, settings

EMBEDDED = "fashion-mnist-subset"
"""The data set that comes with the package."""
SMALLEST_SIDE = 8
"""Smallest side of a network's input in pixels."""
LONGEST_PATH = 1 << 20
"""Most characters of ``--data``; a list of a thousand shards fits."""


@settings("Data")
class DataSettings:
    """Which data set is used, and how it is split."""

    data: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="A folder with train/CLASS/*.png; shards such as 'train-{000..009}.tar'; or "
            f"{EMBEDDED} (embedded), fashion_mnist, cifar10 …",
        ),
    ] = EMBEDDED
    data_root: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Folder that torchvision's data sets are read from or downloaded to.",
        ),
    ] = ""
    image_size: Annotated[
        int | tuple[int, int],
        Text(read_size, size_text),
        Field(
            description="Side of the network's input in pixels, or HEIGHTxWIDTH; 0 derives it from the "
            "images."
        ),
    ] = 0
    channels: Annotated[
        int,
        Field(description="Channels of the network's input; with 1, coloured images become grey."),
    ] = 3
    val_fraction: Annotated[Part, Field(description="Part of the training data held out for validation.")] = (
        0.1
    )
    split_seed: Annotated[
        int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, description="Seed of the split.")
    ] = 0
    labels: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Table of the images in the folder --data and their labels, as CSV, JSON lines or "
            "Parquet; by default, folders are classes.",
        ),
    ] = ""
    unlabelled: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Folder of images without labels, which the distillation uses without cross-entropy.",
        ),
    ] = ""

    @model_validator(mode="after")
    def _check(self) -> DataSettings:
        if not self.data:
            raise UsageError(
                "no `data` is given, and this preset needs your own copy of ImageNet",
                "Give `data` FOLDER with train/CLASS and val/CLASS, or `data` 'train-{000..099}.tar,val-…'",
            )
        if self.channels not in CHANNELS:
            raise UsageError(f"`channels` {self.channels} cannot be used", "Give 1 or 3")
        if self.image_size:
            check_image_size(self.image_size, SMALLEST_SIDE)
            object.__setattr__(self, "image_size", short_size(self.image_size))
        return self


@settings("Data")
class PlaceSettings:
    """Where the data of a file is now."""

    data: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Where the data is now, or the name of a data set; empty uses the recorded one.",
        ),
    ] = ""
    data_root: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Folder that torchvision's data sets are read from or downloaded to.",
        ),
    ] = ""
    labels: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Where the table of labels is now; empty uses the recorded one, if there is one.",
        ),
    ] = ""
