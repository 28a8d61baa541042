"""Find the output of a network that holds the logits, and read it.

Files from other tools may have several outputs, or logits of another shape. They are judged by the results of
a run, because declared shapes are often missing or wrong.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imf_deploy.errors import UsageError
from imf_deploy.runners.base import Logits
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.untrusted import shorten

_SHOWN = 8
"""Maximum number of outputs that an error lists."""
_LONGEST = 60
"""Maximum number of characters of a name."""


def find_logits(path: Path, outputs: Mapping[str, Any], images: int, classes: int, wanted: str = "") -> str:
    """Return the name of the output that holds the logits.

    Args:
        path: Name of the network in errors.
        outputs: Every output of one run, by name.
        images: Images in the batch of that run.
        classes: Number of classes; the logits have one column for each.
        wanted: Name given by the user; if empty, the only output that fits.

    Raises:
        UsageError: no output fits the classes, several do, or the wanted one does not or does not exist.
    """
    if wanted:
        named_output(path, list(outputs), wanted)
        if not _fits(outputs[wanted], images, classes):
            raise _unfit(path, {wanted: outputs[wanted]}, images, classes)
        return wanted
    fitting = [name for name, values in outputs.items() if _fits(values, images, classes)]
    if not fitting:
        raise _unfit(path, outputs, images, classes)
    if len(fitting) > 1:
        raise UsageError(
            f"{path} has {len(fitting)} outputs with a column for each of {classes} labels: "
            f"{_listed({name: outputs[name] for name in fitting})}",
            "Use `logits` with the name of one, or export the file with one output",
        )
    return fitting[0]


def named_output(path: Path, names: Sequence[str], wanted: str = "") -> str:
    """Return the wanted output, or the first one.

    Raises:
        UsageError: there is no output of that name.
    """
    if wanted and wanted not in names:
        existing = _some([shorten(name, _LONGEST) for name in names])
        raise UsageError(
            f"{path} has no output '{shorten(wanted, _LONGEST)}', only {existing}", "Check `logits`"
        )
    return wanted or names[0]


def read_logits(path: Path, name: str, values: Any, images: int, classes: int) -> Logits:
    """Return the values of an output as ``float32 [N, classes]``.

    Axes of length 1 after the batch are removed: convolutional heads return ``[N, classes, 1, 1]``.

    Args:
        path: Name of the network in errors.
        name: Name of the output.
        values: Result of a run for it.
        images: Images in the batch, ``N``.
        classes: Number of classes.

    Raises:
        UsageError: the output has other rows or columns.
    """
    if not _fits(values, images, classes):
        raise _unfit(path, {name: values}, images, classes)
    logits: Logits = np.asarray(values).reshape(images, classes).astype(np.float32, copy=False)
    return logits


def _fits(values: Any, images: int, classes: int) -> bool:
    """Return whether values are floating-point numbers, a row for each image, a column for each class."""
    return (
        isinstance(values, np.ndarray)
        and np.issubdtype(values.dtype, np.floating)
        and values.shape[:1] == (images,)
        and CLASSIFICATION.fits(values.shape, classes)
    )


def _unfit(path: Path, outputs: Mapping[str, Any], images: int, classes: int) -> UsageError:
    """Return the error for outputs that are not logits of these classes, with their shapes."""
    several = len(outputs) > 1
    return UsageError(
        f"{path} has no output with one column for each of {classes} labels: for a batch of {images} it "
        f"returns {_listed(outputs)}",
        f"Use data with the classes that it was trained on{', or `logits` with a name' if several else ''}",
    )


def _listed(outputs: Mapping[str, Any]) -> str:
    """Return names and shapes, such as ``'features' [2, 48], 'scores' int64 [2]``."""
    return _some([f"'{shorten(name, _LONGEST)}' {_shape(values)}" for name, values in outputs.items()])


def _some(parts: list[str]) -> str:
    more = [f"and {len(parts) - _SHOWN} more"] if len(parts) > _SHOWN else []
    return ", ".join([*parts[:_SHOWN], *more])


def _shape(values: Any) -> str:
    if not isinstance(values, np.ndarray):
        return f"({type(values).__name__})"
    kind = "" if np.issubdtype(values.dtype, np.floating) else f"{values.dtype} "
    return f"{kind}[{', '.join(map(str, values.shape))}]"
