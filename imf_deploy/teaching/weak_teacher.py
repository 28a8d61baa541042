"""Is a teacher worth learning from? Asked of a few images before hours are spent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imf_deploy.artifact import Artifact
from imf_deploy.chance import clearly_better, suspect, why_suspect
from imf_deploy.data import DataSet
from imf_deploy.errors import UsageError
from imf_deploy.models import device_of
from imf_deploy.verification.evaluate import top1

if TYPE_CHECKING:
    from imf_deploy.teaching.teacher import Teacher

Spec = TypeVar("Spec")
SAMPLE = 256
"""Images that a teacher is tried on, but at least four of each class up to :data:`MOST`."""
MOST = 1024
_BATCH = 64


def sample(data: DataSet) -> tuple[Tensor, Tensor]:
    """Return validation images, and training images where there are too few: the same ones each time.

    Returns:
        ``uint8 [N, 1 or 3, S, S]``, and their labels ``int64 [N]``.
    """
    wanted = min(max(SAMPLE, 4 * data.preprocess.num_classes), MOST)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for split in (data.validation, data.train):
        count = min(wanted - sum(len(part) for part in labels), len(split))
        if count > 0:
            chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
            images.append(split.fetch(chosen))
            labels.append(split.labels[chosen])
    return torch.cat(images), torch.cat(labels)


def better_teacher(
    module: nn.Module, others: Iterable[tuple[Spec, nn.Module]], data: DataSet, device: torch.device
) -> tuple[Spec, nn.Module, str] | None:
    """Return the best of several ways to build a teacher, and how good it is, in words.

    Nothing where none is clearly better than the present way.

    Args:
        module: In evaluation mode; images -> logits.
        others: The same network, built in other ways.
        data: What they are to teach on.
        device: Where all of them are.
    """
    images: Tensor | None = None
    before = best = np.zeros(0, dtype=bool)
    found = None
    for spec, other in others:
        if images is None:
            images, labels = sample(data)
            before = best = _right(module, images, labels, data, device)
        right = _right(other, images, labels, data, device)
        if clearly_better(right, before) and right.sum() > best.sum():
            best, found = right, (spec, other)
    if found is None:
        return None
    return *found, f"{best.mean():.1%} of {len(best)} images right, in place of {before.mean():.1%}"


def _right(
    module: nn.Module, images: Tensor, labels: Tensor, data: DataSet, device: torch.device
) -> npt.NDArray[np.bool_]:
    with torch.inference_mode():
        parts = torch.split(images, _BATCH)
        answers = torch.cat([module(data.preprocess.normalize(p).to(device)).argmax(1).cpu() for p in parts])
    right: npt.NDArray[np.bool_] = (answers == labels).numpy()
    return right


def check_teacher(teacher: Teacher, data: DataSet, accept: bool) -> str:
    """Compare a teacher with chance, and without a record also with the obvious other ways to use it.

    Args:
        teacher: In evaluation mode.
        data: What it is to teach on.
        accept: Whether to go on all the same.

    Returns:
        The warning about an accepted teacher, without a full stop; empty where nothing is wrong.

    Raises:
        UsageError: its accuracy is suspect, and nobody accepted it.
    """
    device = device_of(teacher.module)
    images, labels = sample(data)
    if teacher.recorded:
        correct = int(_right(teacher.module, images, labels, data, device).sum())
        reason, cause = suspect(correct, len(labels), labels.numpy()), None
    else:
        reason, cause = why_suspect(
            lambda batch: teacher.module(batch.to(device)), images, data.preprocess, labels.numpy()
        )
    if not reason:
        return ""
    told = f"the teacher {teacher.spec.name} is suspect: {reason}"
    if accept:
        return told[0].upper() + told[1:]
    hint = (
        f"Give weights that were trained as {data.name} is prepared, its classes in the same order"
        if cause
        else "Train it for longer, or check that the weights belong to this data"
    )
    raise UsageError(told, f"{hint}, or add --accept-weak-teacher")


def weak_teacher(teacher: float, student: float) -> str:
    """Return a warning where a student came out no less accurate than its teacher, else nothing.

    Args:
        teacher: Accuracy from 0 to 1.
        student: The same, after the distillation.
    """
    if student < teacher:
        return ""
    return (
        f"The teacher ({teacher:.2%}) is no better than the student ({student:.2%}): distillation gains "
        "little from it"
    )


def weak_on_validation(distilled: Artifact, teacher: Teacher, data: DataSet) -> str:
    """Return the warning of :func:`weak_teacher`, both measured on the validation images.

    The test split is for what is deployed. Without validation images there is nothing to say.
    """
    reached = distilled.known("history", list)[-1].get("validation_accuracy")
    own = next((each for each in distilled.evidence.get("refitted", []) if each["head"] == "plain"), None)
    if own and own["kept"]:
        reached = own["after"]
    if reached is None:
        return ""
    device = device_of(teacher.module)
    return weak_teacher(top1(teacher.module, data.validation, data.preprocess, device), reached)
