"""What a frozen teacher says of whole batches, kept in a folder that several trainings share."""

from __future__ import annotations

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
"""Asks the teacher; gives a tensor for each name."""
SUFFIX = ".teacher"


class TeacherMemory:
    """A teacher's outputs by the pixels of the batch that it was shown (ours).

    Trainings of one seed see the same batches, whatever their method and student, so the teacher has
    to look but once. What comes back is what it would say, bit for bit: a batch is kept whole, and under
    the device and the number of threads too. Processes may share a folder; a file that is damaged or half
    written is asked for again. How long the teacher took is kept beside each tensor, so that the time
    of a training can be told as though it had asked (:attr:`spared`).

    Args:
        folder: Where. It is made when the first batch is kept.
        teacher: Hash of the teacher's weights.
        limit: Bytes that the folder may take, and it never takes more than the disk has left. Processes
            look at each other's files now and then, and may pass it by a sixty-fourth.
    """

    def __init__(self, folder: Path, teacher: str, limit: float) -> None:
        self._folder = folder
        self._teacher = teacher
        self._limit = limit
        self._taken = 0
        self._most = 0.0
        self._until = 0.0
        self.spared = 0.0
        """Processor time in seconds that a training which asks for itself takes longer, so far; below
        zero where keeping took more than was spared."""

    def get(self, images: Tensor, names: Sequence[str], look: Look) -> list[Tensor]:
        """Return what the teacher says of a batch; it is asked unless all of it is kept.

        Args:
            images: ``[N, 3, S, S]``.
            names: What each tensor is, the same for all that share the folder.
            look: Asks the teacher; maps ``[N, C, H, W]`` are channels-last.
        """
        started = time.process_time()
        about = [self._teacher, str(images.device), str(images.dtype), torch.__version__]
        key = fingerprint([*about, torch.get_num_threads()])[:12]
        pixels = images.detach().cpu().contiguous()
        batch = hashlib.sha256(pixels.numpy().data).hexdigest()[:32]
        paths = [self._folder / f"{key}-{batch}-{name}{SUFFIX}" for name in names]
        found = _read_all(paths)
        if found is not None:
            tensors, took = found
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
            if path.exists():
                continue
            content = save({"output": stored(tensor).contiguous()}, {"seconds": repr(took)})
            # A full disk only means that the teacher is asked again.
            with contextlib.suppress(OSError):
                if self._has_room(len(content)):
                    _replace(path, content)

    def _has_room(self, size: int) -> bool:
        """Return whether a file may be added; other processes' files are counted now and then."""
        self._taken += size
        if self._taken >= self._until:
            self._folder.mkdir(parents=True, exist_ok=True)
            with os.scandir(self._folder) as entries:
                self._taken = size + sum(entry.stat().st_size for entry in entries)
            self._most = min(self._limit, shutil.disk_usage(self._folder).free)
            self._until = self._taken + self._limit / 64
        return self._taken <= self._most


def _replace(path: Path, content: bytes) -> None:
    """Write a file at once; not synced, since it can be made again."""
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_all(paths: Sequence[Path]) -> tuple[list[Tensor], float] | None:
    """Return the tensors and how long the teacher took; nothing unless all are there and whole."""
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
