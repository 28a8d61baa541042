"""The index of tar shards: which picture lies where, and what its sample says of its class."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imf_deploy.data.pictures import unreadable
from imf_deploy.data.shard_samples import UNREADABLE, read_samples
from imf_deploy.errors import ImfDeployError


@dataclass(frozen=True, eq=False)
class ShardPictures:
    """Pictures inside tar files. Numbers alone are kept: 20 bytes a picture.

    Attributes:
        shards: The files.
        shard: ``int32 [N]``, which of them a picture is in.
        offset: ``int64 [N]``, where its bytes begin.
        size: ``int64 [N]``, how many they are.
        headers: Hash of the headers of all members.
    """

    shards: tuple[Path, ...]
    shard: Tensor
    offset: Tensor
    size: Tensor
    headers: str

    def __len__(self) -> int:
        return len(self.offset)

    def name(self, position: int) -> str:
        """Return shard and member; reads the shard's headers again, since no names are kept."""
        path = self.shards[int(self.shard[position])]
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.offset_data == int(self.offset[position]):
                        return f"{path}, member {member.name}"
        except (OSError, tarfile.TarError):
            pass  # the shard has changed since it was indexed
        return f"{path}, at byte {int(self.offset[position])}"

    def read(self, position: int) -> bytes:
        """Return a member's bytes."""
        path, size = self.shards[int(self.shard[position])], int(self.size[position])
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.offset[position]))
                content = file.read(size)
        except OSError as error:
            raise ImfDeployError(f"cannot read the shard {path} ({error.strerror})", UNREADABLE) from error
        if len(content) < size:
            raise unreadable(self.name(position), "the shard has become shorter")
        return content

    def digest(self) -> str:
        """Return the hash of the headers: names, sizes and times of writing, not the pictures."""
        return self.headers


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What the shards of one split hold.

    Attributes:
        pictures: The pictures.
        tokens: The classes that are named, each once.
        which: Which of them every picture has, ``int64 [N]``.
    """

    pictures: ShardPictures
    tokens: list[str]
    which: Tensor
    _marks: Tensor

    def marks(self) -> Tensor:
        """Return a hash of every picture's size and pieces of its content, ``int64 [N]``."""
        return self._marks


def index_shards(paths: list[Path], advance: Callable[[int], None]) -> ShardIndex:
    """Read the headers and classes of shards.

    Args:
        paths: The shards of one split.
        advance: Called with 1 after each.

    Raises:
        UsageError: a sample has no class, no picture, or two of one.
        ImfDeployError: a shard is not a whole tar, or what is named as a picture begins like none.
    """
    shard: list[Tensor] = []
    offset: list[int] = []
    size: list[int] = []
    which: list[int] = []
    marks: list[int] = []
    tokens: dict[str, int] = {}
    headers = hashlib.sha256()
    for number, path in enumerate(paths):
        samples = read_samples(path, headers)
        for place, length, token, mark in samples:
            offset.append(place)
            size.append(length)
            which.append(tokens.setdefault(token, len(tokens)))
            marks.append(mark)
        shard.append(torch.full((len(samples),), number, dtype=torch.int32))
        advance(1)
    if not offset:
        raise ImfDeployError(f"{paths[0]} holds no images", "Write KEY.jpg and KEY.cls for every sample")
    pictures = ShardPictures(
        tuple(paths), torch.cat(shard), torch.tensor(offset), torch.tensor(size), headers.hexdigest()
    )
    return ShardIndex(pictures, list(tokens), torch.tensor(which), torch.tensor(marks))
