"""The index of tar shards: the position of each image, and the class that its sample gives."""

import hashlib
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imf_deploy.data.image_file import unreadable
from imf_deploy.data.shard_samples import UNREADABLE, read_samples
from imf_deploy.errors import ImfDeployError


@dataclass(frozen=True, eq=False)
class ShardPictures:
    """Images inside tar files. Only numbers are kept: 20 bytes per image.

    Attributes:
        shards: The files.
        shard: Index of the shard of each image, ``int32 [N]``.
        offset: Offset of its first byte, ``int64 [N]``.
        size: Size in bytes, ``int64 [N]``.
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

    def first_read(self, position: int) -> bytes:
        """Return a member's bytes; the index has what identifies it."""
        return self.read(position)

    def digest(self) -> str:
        """Return the hash of the headers: names, sizes and times of writing, not the images."""
        return self.headers


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The contents of the shards of one split.

    Attributes:
        pictures: The images.
        tokens: The distinct classes, as written in the shards.
        which: Index of the token of every image, ``int64 [N]``.
    """

    pictures: ShardPictures
    tokens: list[str]
    which: Tensor
    _marks: Tensor

    def marks(self) -> Tensor:
        """Return a hash of every image's size and pieces of its content, ``int64 [N]``."""
        return self._marks


def index_shards(paths: list[Path], advance: Callable[[int], None]) -> ShardIndex:
    """Read the headers and classes of shards.

    Args:
        paths: The shards of one split.
        advance: Called with 1 after each shard.

    Raises:
        UsageError: a sample has no class or no image, or has two of one.
        ImfDeployError: a shard is not a complete tar file, or a member does not begin like its image type.
    """
    rows: list[tuple[int, ...]] = []
    tokens: dict[str, int] = {}
    headers = hashlib.sha256()
    for number, path in enumerate(paths):
        for place, length, token, mark in read_samples(path, headers.update):
            rows.append((number, place, length, tokens.setdefault(token, len(tokens)), mark))
        advance(1)
    if not rows:
        raise ImfDeployError(f"{paths[0]} holds no images", "Write KEY.jpg and KEY.cls for every sample")
    shard, offset, size, which, marks = (column.contiguous() for column in torch.tensor(rows).T)
    pictures = ShardPictures(tuple(paths), shard.int(), offset, size, headers.hexdigest())
    return ShardIndex(pictures, list(tokens), which, marks)
