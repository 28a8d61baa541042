"""The index of tar shards: which picture lies where, and what its sample says of its class."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imf_deploy.data.pictures import FORMATS, SUFFIXES, unreadable
from imf_deploy.errors import ImfDeployError

_BLOCK = tarfile.BLOCKSIZE
_CLASSES = (".cls", ".json")
# What Pillow's readers look at to know their format.
_HEAD = 16
# Larger ones are no class; nothing is to fill the memory.
_LARGEST_CLASS = 1 << 20


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
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.offset_data == int(self.offset[position]):
                    return f"{path}, member {member.name}"
        return f"{path}, at byte {int(self.offset[position])}"

    def read(self, position: int) -> bytes:
        """Return a member's bytes."""
        path, size = self.shards[int(self.shard[position])], int(self.size[position])
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.offset[position]))
                content = file.read(size)
        except OSError as error:
            raise ImfDeployError(f"cannot read the shard {path} ({error.strerror})", "Check it") from error
        if len(content) < size:
            raise unreadable(self.name(position), "the shard has become shorter")
        return content

    def digest(self) -> str:
        """Return the hash of the headers: names, sizes and times of writing, not the pictures."""
        return self.headers


def index_shards(
    paths: list[Path], advance: Callable[[int], None]
) -> tuple[ShardPictures, list[str], Tensor]:
    """Read the headers and classes of shards.

    Args:
        paths: The shards of one split.
        advance: Called with 1 after each.

    Returns:
        The pictures; the classes that are named, each once; and which of them every picture has,
        ``int64 [N]``.

    Raises:
        ImfDeployError: a shard is no whole tar, a sample has no class, no picture, or two of one, or what
            is named as a picture begins like none.
    """
    shard: list[Tensor] = []
    offset: list[int] = []
    size: list[int] = []
    which: list[int] = []
    tokens: dict[str, int] = {}
    headers = hashlib.sha256()
    for number, path in enumerate(paths):
        samples = _samples(path, headers)
        for place, length, token in samples:
            offset.append(place)
            size.append(length)
            which.append(tokens.setdefault(token, len(tokens)))
        shard.append(torch.full((len(samples),), number, dtype=torch.int32))
        advance(1)
    if not offset:
        raise ImfDeployError(f"{paths[0]} holds no images", "Write KEY.jpg and KEY.cls for every sample")
    pictures = ShardPictures(
        tuple(paths), torch.cat(shard), torch.tensor(offset), torch.tensor(size), headers.hexdigest()
    )
    return pictures, list(tokens), torch.tensor(which)


@dataclass
class _Sample:
    """Members of one key."""

    picture: tarfile.TarInfo | None = None
    token: str | None = None


def _samples(path: Path, headers: hashlib._Hash) -> list[tuple[int, int, str]]:
    """Return offset, size and class of every picture of a shard."""
    samples: dict[str, _Sample] = {}
    others: dict[str, str] = {}
    is_picture = _pillow_accepts()
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, dot, ending = base.partition(".")
                suffix = (dot + ending).lower()
                if not member.isreg() or member.issparse() or not stem:
                    continue
                key = f"{folder}/{stem}"
                if suffix not in SUFFIXES and suffix not in _CLASSES:
                    others[key] = suffix
                    continue
                if member.offset_data + member.size > length:
                    raise _truncated(path, member.name)
                headers.update(
                    f"{member.name}|{member.size}|{member.mtime}\n".encode(errors="surrogateescape")
                )
                _add(samples.setdefault(key, _Sample()), tar, member, path, is_picture)
            end = tar.offset
    except tarfile.TarError as error:
        last = list(samples)[-1].lstrip("/") if samples else ""
        if last:
            raise _truncated(path, last) from error
        raise ImfDeployError(
            f"the shard {path} is no uncompressed tar ({error})", "Unpack it, or fetch it again"
        ) from error
    with path.open("rb") as file:
        file.seek(end)
        # The end mark is two blocks of zeros. tarfile takes damaged headers and a cut for the end, too.
        if file.read(_BLOCK) != bytes(_BLOCK) and samples:
            raise _truncated(path, list(samples)[-1].lstrip("/"))
    found = []
    for key, sample in samples.items():
        if sample.picture is None or sample.token is None:
            raise _incomplete(path, key, sample, others)
        found.append((sample.picture.offset_data, sample.picture.size, sample.token))
    return found


def _add(
    sample: _Sample,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: Path,
    is_picture: Callable[[bytes], bool],
) -> None:
    """Note a picture, of which only the first bytes are looked at, or a class."""
    if not member.name.lower().endswith(_CLASSES):
        if sample.picture:
            raise _sample_error(path, member.name, "its sample has a second picture")
        if not is_picture(_head(tar, member)):
            why = f"it is none of {', '.join(FORMATS)}" if member.size else "it is empty"
            raise unreadable(f"{path}, member {member.name}", why)
        sample.picture = member
    elif member.name.lower().endswith(".cls") or sample.token is None:
        sample.token = _token(tar, member, path)


def _incomplete(path: Path, key: str, sample: _Sample, others: dict[str, str]) -> ImfDeployError:
    if sample.picture:
        return _sample_error(path, key.lstrip("/"), "it has a picture and no class")
    what = "it has a class and no picture"
    if key in others:
        what += f", and {others[key] or 'no ending'} is the name of no kind that is read"
    return _sample_error(path, key.lstrip("/"), what)


def _pillow_accepts() -> Callable[[bytes], bool]:
    """Return the function that tells from its first bytes whether something is one of ``FORMATS``."""
    from PIL import Image

    Image.init()
    accept = [Image.OPEN[name][1] for name in FORMATS]
    # Some answer with a sentence where they could read it in another build of Pillow.
    return lambda head: any(test is None or bool(test(head)) for test in accept)


def _head(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return a member's first bytes; they lie behind the header that was just read."""
    file = tar.extractfile(member)
    return file.read(_HEAD) if file else b""


def _token(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Return what a ``.cls`` or ``.json`` member says: an integer or a name."""
    file = tar.extractfile(member) if member.size <= _LARGEST_CLASS else None
    try:
        text = file.read().decode() if file else ""
        value = text.strip() if member.name.lower().endswith(".cls") else json.loads(text)["label"]
    except (ValueError, KeyError, TypeError) as error:
        raise _sample_error(path, member.name, 'it is not {"label": …} in JSON or a word in UTF-8') from error
    if isinstance(value, bool) or not isinstance(value, int | str) or str(value).strip() == "":
        raise _sample_error(path, member.name, "its class is neither an integer nor a name")
    return str(value).strip()


def _truncated(path: Path, member: str) -> ImfDeployError:
    return ImfDeployError(
        f"the shard {path} is truncated or damaged at or after member {member}",
        "Fetch it again, or leave it out of --data",
    )


def _sample_error(path: Path, member: str, why: str) -> ImfDeployError:
    return ImfDeployError(
        f"the shard {path} has a sample that cannot be used, {member}: {why}",
        "Write KEY.jpg and KEY.cls for every sample",
    )
