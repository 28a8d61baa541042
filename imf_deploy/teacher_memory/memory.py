"""Outputs of a frozen teacher for whole batches, stored in a folder that several trainings share."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from imf_deploy.files import fingerprint
from imf_deploy.teacher_memory.outputs import stored

Look = Callable[[], Sequence[Tensor]]
"""Runs the teacher; returns a tensor for each name."""
SUFFIX = ".teacher"


class TeacherMemory:
    """A teacher's outputs, stored by the pixels of the batch (ours).

    Trainings of one seed see the same batches, whatever their method and student, so the teacher has to run
    only once. The result is what the teacher would output, bit for bit: a batch is stored as a whole, and
    separately for each device and number of threads. Processes may share a folder; a file that is damaged or
    incomplete is computed again. The time of the teacher is stored with each tensor, so that the time of a
    training can be reported as if it had run the teacher (:attr:`spared`).

    Args:
        folder: Folder, created when the first batch is stored.
        teacher: Hash of the teacher's weights.
        limit: Maximum size of the folder in bytes; it never takes more than the free disk space. Processes
            check each other's files from time to time, and may exceed it by a sixty-fourth.
    """

    def __init__(self, folder: Path, teacher: str, limit: float) -> None:
        self._folder = folder
        self._teacher = teacher
        self._limit = limit
        self._taken = 0
        self._most = 0.0
        self._until = 0.0
        self.spared = 0.0
        """Processor time in seconds that a training would take longer if it ran the teacher itself, so far;
        below zero if storing took more than was spared."""

    def get(self, images: Tensor, names: Sequence[str], look: Look) -> list[Tensor]:
        """Return the teacher's outputs for a batch; the teacher runs unless all of them are stored.

        Args:
            images: ``[N, C, H, W]``.
            names: Names of the tensors, the same for all trainings that share the folder.
            look: Runs the teacher; maps ``[N, C, H, W]`` are channels-last.
        """
        started = time.process_time()
        about = [self._teacher, str(images.device), str(images.dtype), torch.__version__]
        key = fingerprint([*about, torch.get_num_threads()])[:12]
        batch = hashlib.sha256(images.detach().cpu().contiguous().numpy().data).hexdigest()[:32]
        paths = [self._folder / f"{key}-{batch}-{name}{SUFFIX}" for name in names]
        stored = _read_all(paths)
        if stored is not None:
            tensors, took = stored
        else:
            asked = time.process_time()
            tensors = list(look())
            took = time.process_time() - asked
            self._keep(paths, tensors, took)
        self.spared += took - (time.process_time() - started)
        return [tensor.to(images.device) for tensor in tensors]

    def _keep(self, paths: Sequence[Path], tensors: Sequence[Tensor], took: float) -> None:
        from safetensors.torch import save

        for path, tensor in zip(paths, tensors, strict=True):
            content = save({"output": stored(tensor).contiguous()}, {"seconds": repr(took)})
            # If the disk is full, the teacher simply runs again.
            with contextlib.suppress(OSError):
                if not path.exists() and self._has_room(len(content)):
                    _replace(path, content)

    def _has_room(self, size: int) -> bool:
        """Return whether a file may be added; other processes' files are counted from time to time."""
        self._taken += size
        if self._taken >= self._until:
            self._folder.mkdir(parents=True, exist_ok=True)
            with os.scandir(self._folder) as entries:
                self._taken = size + sum(entry.stat().st_size for entry in entries)
            self._most = min(self._limit, shutil.disk_usage(self._folder).free)
            self._until = self._taken + self._limit / 64
        return self._taken <= self._most


def _replace(path: Path, content: bytes) -> None:
    """Write a file at once; it is not synced, because it can be computed again."""
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_all(paths: Sequence[Path]) -> tuple[list[Tensor], float] | None:
    """Return the tensors and the time of the teacher; ``None`` unless all are complete."""
    from safetensors import SafetensorError, safe_open

    tensors, took = [], 0.0
    try:
        for path in paths:
            with safe_open(path, "pt") as file:
                stored = file.get_tensor("output")
                took = max(took, float(file.metadata()["seconds"]))
            tensors.append(stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        for path in paths:
            path.unlink(missing_ok=True)
        return None
    return tensors, took
