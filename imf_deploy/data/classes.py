"""Rules for names of classes, which appear in records, reports and terminals, and their order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from unicodedata import category

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.untrusted import printable

CLASS_NAMES = "classes.txt"
"""Name of the file that names the classes of data whose labels are integers, one per line."""
_NAMES_BYTES = 64 << 20
LONGEST = 255
"""Maximum number of characters of a class name; file systems do not allow more."""
# These change the direction of the text after them. Joiners share the category, but some scripts need them.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def class_name(name: str, where: str) -> str:
    """Return the name of a class if it can be written and displayed everywhere.

    Args:
        name: The name.
        where: The place of the name, for the message.

    Raises:
        UsageError: the name is not UTF-8, is longer than :data:`LONGEST`, or holds control characters or
            marks that change the direction of text.
    """
    if any(category(char) == "Cs" for char in name):
        why = "is not UTF-8"
    elif any(category(char) in ("Cc", "Zl", "Zp") or char in _TURNING for char in name):
        why = "holds control characters"
    elif len(name) > LONGEST:
        name, why = f"{name[:40]}…", f"is longer than {LONGEST} characters"
    else:
        return name
    raise UsageError(f"the class name '{printable(name)}' {why} ({where})", "Rename the class")


def number_classes(
    train: Iterable[str], every: Iterable[str], file: Path, data: str, holder: str
) -> tuple[list[str], dict[str, int]]:
    """Order the classes of data whose labels are written down: as names, or as integers from 0.

    The order is that of the names in a file next to the data, or else of the sorted training labels. Labels
    are names if all of them are in the file, and otherwise integers.

    Args:
        train: Labels of the training images, which may repeat.
        every: Labels of all images.
        file: The file, which need not exist.
        data: Name of the data in messages.
        holder: What holds a label, for messages.

    Returns:
        Names of the classes in the order of the logits, and the number of the class that each label names.

    Raises:
        ImfDeployError: the file cannot be used, a label is not one of the classes, a class has no training
            image, or there is only one.
    """
    own, found, listed = set(train), set(every), file.is_file()
    names = _listed(file) if listed else sorted(own)
    if not listed and all(label.isdecimal() for label in names):
        names.sort(key=int)
    numbers = {name: number for number, name in enumerate(names)}
    if listed and not found <= numbers.keys() and all(label.isdecimal() for label in found):
        numbers = {label: int(label) for label in found if int(label) < len(names)}
    if wrong := sorted(found - numbers.keys()):
        raise ImfDeployError(
            f"{holder} holds the class '{wrong[0]}', which is not one of the {len(names)} in "
            + (str(file) if listed else "the training images"),
            f"Correct it, or list all classes in {file}",
        )
    if missing := set(range(len(names))) - {numbers[label] for label in own}:
        raise ImfDeployError(
            f"{file} names {len(missing)} class(es) without a training image, such as "
            f"'{names[min(missing)]}'",
            "Remove their lines, or add images",
        )
    if len(names) < 2:
        raise ImfDeployError(f"{data} has one class only ({names[0]})", "A classifier needs two or more")
    return names, numbers


def _listed(file: Path) -> list[str]:
    """Return the names in a file."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_NAMES_BYTES + 1)
        if len(content) > _NAMES_BYTES:
            raise ValueError(f"it is larger than {_NAMES_BYTES >> 20} MiB")
        text = content.decode("utf-8")
        names = [class_name(name, str(file)) for line in text.split("\n") if (name := line.strip())]
    except (OSError, ValueError) as error:
        raise ImfDeployError(f"cannot read {file} ({error})", "Write one class name per line") from error
    if len(set(names)) < len(names) or not names:
        raise ImfDeployError(f"{file} is empty or names a class twice", "List every class once")
    return names
