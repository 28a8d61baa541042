"""A folder of images in the usual form: ``train/CLASS/*.png``, ``val/CLASS/*``."""

import unicodedata
from dataclasses import replace
from pathlib import Path

from imf_deploy.data.classes import class_name
from imf_deploy.data.dataset import DataSet
from imf_deploy.data.encoded import Part, open_parts
from imf_deploy.data.layout import find_layout
from imf_deploy.data.pictures import FilePictures
from imf_deploy.data.roles import Role
from imf_deploy.data.walk import Walk, entries, images_below, is_folder, real
from imf_deploy.errors import ImfDeployError
from imf_deploy.settings import DataSettings


def open_folder(folder: Path, config: DataSettings) -> DataSet:
    """Open a folder of images; missing splits are left empty.

    With ``train`` and ``val``, ``val`` is used to report; with ``test`` as well, ``val`` is used to choose
    and ``test`` to report. Class folders directly in ``folder`` are one training split.
    :func:`imf_deploy.data.layout.find_layout` decides which folders are splits. Images in folders inside a
    class folder belong to that class; links are followed. Hidden files are ignored, and so are other files
    that are not images, which a note counts.

    Every image is decoded once, so that a corrupt one is reported before any training.

    Args:
        folder: The folder.
        config: Settings with the size and channels of the network's input. Size 0 uses 224, or the images'
            own size if they are square, of one size, and smaller than 64.

    Raises:
        UsageError: splits and classes cannot be distinguished, or the name of a class cannot be displayed.
        ImfDeployError: there are no images or only one class, splits have different classes, an image is
            corrupt.
    """
    layout = find_layout(folder)
    walk = Walk(real(folder))
    train_folder = layout.splits["train"]
    parts: dict[Role, Part] = {}
    classes: list[str] = []
    for role, place in layout.splits.items():
        names, parts[role] = _scan(folder, place, walk)
        classes = classes or names
        if names != classes:
            missing, surplus = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
            raise ImfDeployError(
                f"{place} has other classes than {train_folder} (missing: {missing}, surplus: {surplus})",
                "Provide a folder for every class in every split",
            )
    data = open_parts(walk.root.name, parts, classes, config, str(layout.splits.get("validation", "")))
    return replace(data, notes=(*layout.notes, *walk.notes(), *data.notes))


def _scan(folder: Path, part: Path, walk: Walk) -> tuple[list[str], Part]:
    """Return class names and images of a split, in the order of torchvision's ``ImageFolder``."""
    folders: dict[str, list[Path]] = {}
    for entry in entries(part):
        if is_folder(entry):
            # macOS writes é as two characters, most other systems as one.
            name = class_name(unicodedata.normalize("NFC", entry.name), f"a folder in {part}")
            folders.setdefault(name, []).append(Path(entry.path))
        else:
            walk.ignore(Path(entry.path))
    paths: list[Path] = []
    labels: list[int] = []
    empty = []
    for label, name in enumerate(sorted(folders)):
        images = [path for place in folders[name] for path in images_below(place, walk)]
        if not images:
            empty.append(name)
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise ImfDeployError(
            f"{part} holds no usable images in class folders",
            "Put them into one folder per class, such as train/CLASS/*.png, or into a table of `labels`",
        )
    if empty:
        raise ImfDeployError(
            f"{part} holds no usable images in the class folder(s) {', '.join(empty)}",
            "Add images or remove the folder",
        )
    if len(folders) < 2:
        raise ImfDeployError(
            f"{part} has one class only ({next(iter(folders))})",
            "A classifier needs two class folders or more",
        )
    pictures = FilePictures(folder, tuple(paths))
    return sorted(folders), Part(pictures, labels, pictures.marks)
