"""Build a ``DataSet`` from encoded images: derive their preprocessing, and keep them decoded if they fit."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from imf_deploy.compat import usable_cpus
from imf_deploy.data.dataset import DataSet, EncodedImages, ImageSource, MemoryImages, Split
from imf_deploy.data.image_file import several_unreadable
from imf_deploy.data.pictures import Pictures, check, decode_first, picture_size
from imf_deploy.data.roles import Role
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import sides
from imf_deploy.limits import LARGEST_SIDE, MOST_CLASSES
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say, track
from imf_deploy.settings import DataSettings

# If all decoded images fit into this size, they are kept in memory, and reading never slows an epoch.
MEMORY_LIMIT = 1 << 30
# Number of images that wait for a thread; an interruption ends the work after those that are being read.
_AHEAD = 256
# Number of damaged images after which the check ends.
_MOST_DAMAGED = 100
LARGE_SIZE = 224
SMALL_SIZE = 64
# Statistics of ImageNet, which pretrained teachers expect.
_MEAN: tuple[float, ...] = (0.485, 0.456, 0.406)
_STD: tuple[float, ...] = (0.229, 0.224, 0.225)
# The means of both over the channels (ours).
_GREY_MEAN: tuple[float, ...] = (0.449,)
_GREY_STD: tuple[float, ...] = (0.226,)


@dataclass(frozen=True)
class Part:
    """The images of one split, and their classes."""

    pictures: Pictures
    labels: Sequence[int] | torch.Tensor
    marks: Callable[[], torch.Tensor]
    """Returns a hash of every image's bytes, ``int64 [N]``."""
    check: bool = True
    """Whether every image is decoded once at the start, even if they do not fit into memory."""


def open_parts(
    name: str, parts: dict[Role, Part], classes: list[str], config: DataSettings, held: str
) -> DataSet:
    """Make a data set of ``train`` and, if given, ``validation`` and ``test``.

    A ``validation`` part without a ``test`` part becomes the test split: it is only used to report.

    Args:
        name: Name of the data set in reports.
        parts: Images by split.
        classes: Names of the classes.
        config: Settings with the size and channels of the network's input.
        held: Name of the validation part in a note.

    Raises:
        UsageError: there are more classes than a record may contain.
        ImfDeployError: an image is corrupt.
    """
    if len(classes) > MOST_CLASSES:
        raise UsageError(
            f"{name} has {len(classes):,} classes, and at most {MOST_CLASSES:,} are supported",
            "Use data with fewer classes",
        )
    preprocess = _derive(parts["train"].pictures, tuple(classes), config)
    splits = dict(zip(parts, map(Split.whole, _sources(list(parts.values()), preprocess)), strict=True))
    notes: tuple[str, ...] = ()
    if "validation" in splits and "test" not in splits:
        splits["test"] = splits.pop("validation")
        notes = (f"There is no test split: {held} is used only to report, never to choose",)
    digest = hashlib.sha256()
    for part in parts.values():
        digest.update(part.pictures.digest().encode())
        digest.update(torch.as_tensor(part.labels, dtype=torch.int64).numpy().tobytes())
    empty = splits["train"].subset(torch.arange(0))
    validation, test = splits.get("validation", empty), splits.get("test", empty)
    return DataSet(name, preprocess, splits["train"], validation, test, digest.hexdigest(), notes)


def open_part(part: Part, preprocess: Preprocess) -> ImageSource:
    """Return the images of one part, decoded in memory if they fit.

    Raises:
        ImfDeployError: an image is damaged.
    """
    return _sources([part], preprocess)[0]


def _derive(pictures: Pictures, labels: tuple[str, ...], config: DataSettings) -> Preprocess:
    sizes = {picture_size(pictures, p) for p in range(0, len(pictures), max(len(pictures) // 64, 1))}
    width, height = next(iter(sizes))
    starting = config.starting
    large = starting.size if starting else LARGE_SIZE
    size = config.image_size or (width if len(sizes) == 1 and width == height < SMALL_SIZE else large)
    shorter = min(sides(size))
    # The usual ratio of ImageNet's evaluation (256 to 224); small images are used whole.
    usual = starting.crop_fraction if starting else LARGE_SIZE / 256
    kept = config.crop_fraction or (1 if shorter < SMALL_SIZE else usual)
    if shorter / kept > 2 * LARGEST_SIDE:
        raise UsageError(
            f"`crop_fraction` {kept:g} scales images to more than {2 * LARGEST_SIDE} pixels",
            "Give a larger part, or a smaller `image_size`",
        )
    grey = config.channels == 1
    mean, std = (_GREY_MEAN, _GREY_STD) if grey else (_MEAN, _STD)
    if starting:
        mean, std = starting.for_channels(config.channels)
    return Preprocess(
        size,
        "crop",
        round(shorter / kept),
        config.mean or mean,
        config.std or std,
        labels,
        "L" if grey else "RGB",
        config.interpolation or (starting.interpolation if starting else "bilinear"),
    )


def _sources(parts: list[Part], preprocess: Preprocess) -> list[ImageSource]:
    """Keep all images decoded if they fit into memory together, else none."""
    keep = sum(len(part.pictures) for part in parts) * preprocess.picture_bytes <= MEMORY_LIMIT
    cpus = usable_cpus()
    read = sum(len(part.pictures) for part in parts if keep or part.check)
    sources: list[ImageSource] = []
    with ThreadPoolExecutor(cpus) as pool, track("Reading images", read) as advance:
        for part in parts:
            pictures, labels = part.pictures, torch.as_tensor(part.labels, dtype=torch.int64)
            images = None
            if keep:
                images = torch.empty(len(pictures), *preprocess.picture_shape, dtype=torch.uint8)
            if keep or part.check:
                _read(pictures, preprocess, images, pool, advance)
            marks = part.marks()
            sources.append(
                EncodedImages(pictures, labels, preprocess, cpus, marks)
                if images is None
                else MemoryImages(images, labels, marks=marks, pictures=pictures)
            )
    return sources


def _read(
    pictures: Pictures,
    preprocess: Preprocess,
    images: torch.Tensor | None,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> None:
    """Read every image once, to check it and, if there is room for it, to keep it.

    Args:
        pictures: The images.
        preprocess: How they are prepared.
        images: Where to keep them, ``uint8 [N, C, H, W]``; ``None`` only checks them.
        pool: Threads to use.
        advance: Called with 1 after each image.

    Raises:
        ImfDeployError: images are damaged. If there are several, each is also logged.
    """

    def work(position: int) -> ImfDeployError | None:
        try:
            if images is None:
                check(pictures, position, preprocess)
            else:
                images[position] = decode_first(pictures, position, preprocess)
        except ImfDeployError as error:
            return error
        return None

    errors: list[ImfDeployError] = []
    for start in range(0, len(pictures), _AHEAD):
        for error in pool.map(work, range(start, min(start + _AHEAD, len(pictures)))):
            advance(1)
            if error is None:
                continue
            errors.append(error)
            # A single one is named by the exception.
            if len(errors) == 2:
                say(errors[0].what, logging.WARNING)
            if len(errors) > 1:
                say(error.what, logging.WARNING)
            if len(errors) == _MOST_DAMAGED:
                raise several_unreadable(errors, more=True)
    if errors:
        raise errors[0] if len(errors) == 1 else several_unreadable(errors, more=False)
