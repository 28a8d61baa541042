"""A folder of pictures in the usual form: ``train/CLASS/*.png``, ``val/CLASS/*``."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from imf_deploy.compat import usable_cpus
from imf_deploy.data.dataset import DataSet, FolderImages, ImageSource, MemoryImages, Split, decode
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import track

# Decoded pictures up to this size in all are kept in memory: reading never slows an epoch.
MEMORY_LIMIT = 1 << 30
LARGE_SIZE = 224
SMALL_SIZE = 64
# Statistics of ImageNet, which pretrained teachers expect.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HELD_OUT_NAMES = ("val", "valid", "validation")


def open_folder(folder: Path, image_size: int) -> DataSet:
    """Open a folder of pictures; splits that it does not have are left empty.

    ``train`` with ``val`` reports on ``val``; with ``test`` as well, ``val`` chooses and ``test``
    reports; class folders directly in ``folder`` are one training split.

    Every picture is decoded once, so that a corrupt one is named before any training.

    Args:
        folder: The folder.
        image_size: Side of the network's input in pixels; 0 takes 224, or the pictures' own size
            where they are square, of one size, and smaller than 64.

    Raises:
        ImfDeployError: no images, one class, different classes in the splits, a corrupt picture.
    """
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    held = next((folder / n for n in _HELD_OUT_NAMES if (folder / n).is_dir()), None)
    test_folder = folder / "test" if (folder / "test").is_dir() else None
    if train_folder is folder and (held or test_folder):
        raise UsageError(f"{folder} has {(held or test_folder)} but no train folder", "Add train/CLASS/*.png")
    classes, train = _scan(train_folder)
    extra = [_scan(part) for part in (held, test_folder) if part]
    for part, (names, _) in zip([p for p in (held, test_folder) if p], extra, strict=True):
        if names != classes:
            missing, surplus = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
            raise ImfDeployError(
                f"{part} has other classes than {train_folder} (missing: {missing}, surplus: {surplus})",
                "Give every split a folder for every class",
            )
    files = [train, *(samples for _, samples in extra)]
    preprocess = _derive(train, tuple(classes), image_size)
    sources = _decode_all(
        [[path for path, _ in part] for part in files], [_labels(p) for p in files], preprocess
    )
    splits = [Split.whole(source) for source in sources]
    empty = splits[0].subset(torch.arange(0))
    validation = splits[1] if held and test_folder else empty
    test = splits[-1] if extra else empty
    digest = hashlib.sha256()
    for path, label in (sample for part in files for sample in part):
        digest.update(f"{path.relative_to(folder)}|{sha256_file(path)}|{label}\n".encode())
    notes = (
        (f"There is no test folder: {held} is used to report, and never to choose",)
        if held and not test_folder
        else ()
    )
    return DataSet(folder.resolve().name, preprocess, splits[0], validation, test, digest.hexdigest(), notes)


def _scan(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Return class names and ``(path, class)`` of every picture."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ImfDeployError(
            f"{folder} holds no usable images ({str(error).splitlines()[0]})",
            "Put them into one folder per class, such as train/CLASS/*.png",
        ) from error
    if len(found.classes) < 2:
        raise ImfDeployError(
            f"{folder} has one class only ({found.classes[0]})",
            "A classifier needs two class folders or more",
        )
    return found.classes, [(Path(path), label) for path, label in found.samples]


def _labels(samples: list[tuple[Path, int]]) -> torch.Tensor:
    return torch.tensor([label for _, label in samples])


def _derive(samples: list[tuple[Path, int]], labels: tuple[str, ...], image_size: int) -> Preprocess:
    from PIL import Image

    sizes = set()
    for path, _ in samples[:: max(len(samples) // 64, 1)]:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ImfDeployError(f"cannot read the image {path} ({error})", "Repair or remove it") from error
    width, height = next(iter(sizes))
    small = len(sizes) == 1 and width == height < SMALL_SIZE
    size = image_size or (width if small else LARGE_SIZE)
    # The usual ratio of ImageNet's evaluation (256 to 224); small pictures are used whole.
    resize_to = size if size < SMALL_SIZE else round(size * 256 / 224)
    return Preprocess(size, "crop", resize_to, _MEAN, _STD, labels)


def _decode_all(
    parts: list[list[Path]], labels: list[torch.Tensor], preprocess: Preprocess
) -> list[ImageSource]:
    """Decode every picture once; keep them all if they are small enough together."""
    total = sum(map(len, parts))
    keep = total * 3 * preprocess.size**2 <= MEMORY_LIMIT
    cpus = usable_cpus()
    sources: list[ImageSource] = []
    with ThreadPoolExecutor(cpus) as pool, track("Reading images", total) as advance:
        for paths, classes in zip(parts, labels, strict=True):
            images = torch.empty(
                len(paths) if keep else 0, 3, preprocess.size, preprocess.size, dtype=torch.uint8
            )
            for start in range(0, len(paths), 256):
                chunk = paths[start : start + 256]
                for offset, image in enumerate(pool.map(lambda path: decode(path, preprocess), chunk)):
                    if keep:
                        images[start + offset] = image
                advance(len(chunk))
            sources.append(
                MemoryImages(images, classes)
                if keep
                else FolderImages(tuple(paths), classes, preprocess, cpus)
            )
    return sources
