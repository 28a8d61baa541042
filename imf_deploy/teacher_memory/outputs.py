"""Outputs of a frozen teacher for each view of an image, stored in a file: each view is computed once."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from imf_deploy.files import write_error
from imf_deploy.progress import say

Run = Callable[[Tensor], Sequence[Tensor]]
"""A network: ``[N, C, H, W]`` -> tensors whose first dimension is ``N``."""
SUFFIX = ".teacher-outputs"
_SCHEMA = 1
_BLOCK = 4096
_STAMP = 8


class OutputsFile:
    """A teacher's outputs by view, in a file of fixed size; memory does not grow with the data.

    A row for each view holds the step that wrote it, as ``int64`` counted from 1, and the values, with maps
    channels-last. A row is used in later steps only. A training that resumes from a checkpoint therefore runs
    the teacher again for rows that were written after it, with the same images in the batch, and gets the
    same numbers as an uninterrupted training, whenever it was killed.

    Args:
        path: File. A file of the same training is continued, any other is replaced.
        key: Hash of everything that affects the outputs.
        rows: Images times views of an image.
        limit: Maximum size in bytes. Above it, or above half of the free disk space, nothing is stored, and a
            message says so.
    """

    def __init__(self, path: Path, key: str, rows: int, limit: float) -> None:
        self._path = path
        self._key = key
        self._rows = rows
        self._limit = limit
        self._file: BinaryIO | None = None
        self._open = False
        self._kinds: list[tuple[tuple[int, ...], torch.dtype]] = []
        self._width = self._start = 0

    def get(self, views: Tensor, step: int, images: Tensor, run: Run) -> list[Tensor]:
        """Return the outputs of ``run`` for images; it is only called for those that are not stored.

        Args:
            views: Rows of these images, ``int64 [N]``, without duplicates.
            step: Step of the training, from 0; the same for all parts of a batch.
            images: ``[N, C, H, W]``.
            run: The teacher, in evaluation mode; not called if nothing is missing.

        Raises:
            ImfDeployError: the file cannot be written.
        """
        try:
            if not self._open:
                self._begin(run(images[:1]))  # one image gives the shapes
            if self._file is None:
                return list(run(images))
            rows = self._read(self._file, views)
            stamps = rows[:, :_STAMP].contiguous().view(torch.int64).flatten()
            missing = ((stamps < 1) | (stamps > step)).nonzero().flatten()
            if len(missing):
                fresh = run(images if len(missing) == len(images) else images[missing.to(images.device)])
                rows[missing] = self._pack(fresh, step + 1)
                self._write(self._file, views[missing], rows[missing])
        except OSError as error:
            raise write_error(self._path, error) from error
        return [t.to(images.device) for t in self._unpack(rows)]

    def sync(self) -> None:
        """Make rows durable, so that a checkpoint written afterwards finds all earlier rows."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which is kept so that the training can resume."""
        if self._file is not None:
            self._file.close()
        self._file, self._open = None, False

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _begin(self, sample: Sequence[Tensor]) -> None:
        """Open the file for tensors like these, or decide against it."""
        self._open = True
        self._kinds = [(tuple(stored(t).shape[1:]), t.dtype) for t in sample]
        self._width = _STAMP + sum(t[0].numel() * t.element_size() for t in sample)
        kinds = [[list(shape), str(dtype)] for shape, dtype in self._kinds]
        about = {"schema": _SCHEMA, "key": self._key, "rows": self._rows, "tensors": kinds}
        header = json.dumps(about).encode()
        self._start = -(-len(header) // _BLOCK) * _BLOCK
        header = header.ljust(self._start)
        size = self._start + self._rows * self._width
        if self._is_ours(header, size):
            self._file = self._path.open("r+b", buffering=0)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        free = shutil.disk_usage(self._path.parent).free
        what = f"The teacher's outputs would take {size / 1e9:.2f} GB"
        if size > self._limit:
            say(f"{what}, more than `teacher_outputs_gb` allows: the teacher runs on every batch instead")
        elif size > free / 2 or not self._make(header, size):
            say(f"{what}, but {free / 1e9:.2f} GB are free: the teacher runs on every batch instead")

    def _is_ours(self, header: bytes, size: int) -> bool:
        if not self._path.is_file() or self._path.stat().st_size != size:
            return False
        with self._path.open("rb") as file:
            return file.read(len(header)) == header

    def _make(self, header: bytes, size: int) -> bool:
        """Create a file of empty rows and allocate its disk space; return whether there is enough."""
        try:
            self._file = self._path.open("x+b", buffering=0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
            self._file.write(header)
        except OSError:
            self.remove()
            self._open = True
            return False
        return True

    def _read(self, file: BinaryIO, views: Tensor) -> Tensor:
        """Return ``uint8 [N, width]``; a row that is incomplete in the file is empty."""
        rows = torch.zeros(len(views), self._width, dtype=torch.uint8)
        for row, view in zip(rows.numpy(), views.tolist(), strict=True):
            file.seek(self._start + view * self._width)
            # IO[bytes] does not declare readinto, but a file opened for bytes has it.
            if file.readinto(memoryview(row)) != self._width:  # type: ignore[attr-defined]
                row[:] = 0
        return rows

    def _write(self, file: BinaryIO, views: Tensor, rows: Tensor) -> None:
        for row, view in zip(rows.numpy(), views.tolist(), strict=True):
            file.seek(self._start + view * self._width)
            left = memoryview(row)
            while left:
                left = left[file.write(left) :]

    def _pack(self, tensors: Sequence[Tensor], stamp: int) -> Tensor:
        columns = [torch.full((len(tensors[0]), 1), stamp), *(stored(t).flatten(1) for t in tensors)]
        return torch.cat([column.contiguous().view(torch.uint8) for column in columns], 1)

    def _unpack(self, rows: Tensor) -> list[Tensor]:
        tensors, start = [], _STAMP
        for shape, dtype in self._kinds:
            end = start + torch.Size(shape).numel() * dtype.itemsize
            values = rows[:, start:end].contiguous().view(dtype).view(len(rows), *shape)
            tensors.append(values.permute(0, 3, 1, 2) if len(shape) == 3 else values)
            start = end
        return tensors


def stored(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU; a map ``[N, C, H, W]`` is channels-last, as in the file."""
    tensor = tensor.detach().cpu()
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
