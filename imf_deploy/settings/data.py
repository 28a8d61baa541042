"""Settings of the data: which data set, and how it is split."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.forms import Number
from imf_deploy.image_size import CHANNELS, check_image_size, read_size, short_size, size_text
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.preparation import Interpolation, Preparation
from imf_deploy.settings.base import INTERNAL, Part, Text, settings, words

EMBEDDED = "fashion-mnist-subset"
"""The data set that comes with the package."""
SMALLEST_SIDE = 8
"""Smallest side of a network's input in pixels."""
LONGEST_PATH = 1 << 20
"""Most characters of ``--data``; a list of a thousand shards fits."""
Channels = Annotated[tuple[Number, ...] | None, Text(lambda text: words(text) or None)]
"""A number for each channel; on the command line, separated by commas."""


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
    mean: Annotated[
        Channels,
        Field(
            description="Mean of each channel of the input, where white is 1, such as 0.5,0.5,0.5; empty "
            "uses that of the weights that a training starts from, or else of the data."
        ),
    ] = None
    std: Annotated[
        Channels, Field(description="Standard deviation of each channel of the input, as for mean.")
    ] = None
    interpolation: Annotated[
        Interpolation | None,
        Field(description="Filter by which images are scaled, bilinear or bicubic; empty as for mean."),
    ] = None
    crop_fraction: Annotated[
        float | None,
        Field(
            ge=0.05,
            le=1,
            description="Part of the scaled image's shorter side that the centre crop keeps; empty as for "
            "mean.",
        ),
    ] = None
    starting: Annotated[
        Preparation | None,
        Field(description="How the weights that a training starts from expect images."),
        INTERNAL,
    ] = None
    unlabelled: Annotated[
        str,
        Field(
            max_length=LONGEST_PATH,
            description="Folder of images without labels, which the distillation uses without cross-entropy.",
        ),
    ] = ""

    @model_validator(mode="after")
    def _check(self) -> DataSettings:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values and len(values) != self.channels:
                raise UsageError(
                    f"`{name}` has {len(values)} value(s), but the input has {self.channels} channel(s)",
                    "Give one value for each channel",
                )
        if self.std and min(self.std) <= 0:
            raise UsageError("`std` has a value that is not positive", "Give positive values")
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
