"""The samples of one tar shard: its members by key, each with an image and a class."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.data.classes import class_name
from imf_deploy.data.image_file import FORMATS, LARGEST_FILE, SUFFIXES, unreadable
from imf_deploy.data.pictures import mark_of
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.untrusted import parse_object, shorten

_BLOCK = tarfile.BLOCKSIZE
_CLASSES = (".cls", ".json")
# The number of bytes that Pillow's readers inspect to detect their format.
_HEAD = 16
# A larger member is not a class; the limit keeps it from filling the memory.
_LARGEST_CLASS = 1 << 20
# A header gives the length of the name after it; only classes and pieces of images are also read at once.
_LARGEST_READ = 16 << 20
# Larger images are compared by pieces of this size: reading all of them would take as long as an epoch.
_PIECE = 4096
UNREADABLE = "Check its permissions and its disk, or leave it out of `data`"
"""What to do with a shard that cannot be read."""


class _BoundedReads(io.BufferedReader):
    """A file whose reads are limited, so that a header cannot make them fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError("a header is larger than any name")
        return super().read(size)


@dataclass
class _Sample:
    """The members of one key."""

    picture: tarfile.TarInfo | None = None
    token: str | None = None
    mark: int = 0


def read_samples(path: Path, note: Callable[[bytes], None]) -> list[tuple[int, int, str, int]]:
    """Return the offset, size, class and mark of every image of a shard.

    Args:
        path: The shard.
        note: Called with the header of each of its members.

    Raises:
        UsageError: a sample has no class or no image, or has two of one.
        ImfDeployError: the shard is not a complete tar file, or a member does not begin like its image type.
    """
    samples: dict[str, _Sample] = {}
    others: dict[str, str] = {}
    is_picture = _pillow_accepts()
    length = path.stat().st_size
    try:
        with (
            _BoundedReads(path.open("rb", buffering=0)) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
        ):
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
                if not 0 <= member.size <= length - member.offset_data:
                    raise _truncated(path, member.name)
                note(f"{member.name}|{member.size}|{member.mtime}\n".encode(errors="surrogateescape"))
                _add(samples.setdefault(key, _Sample()), tar, member, path, is_picture)
            end = tar.offset
    except OSError as error:
        raise ImfDeployError(
            f"cannot read the shard {path} ({error.strerror or error})", UNREADABLE
        ) from error
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        last = list(samples)[-1].lstrip("/") if samples else ""
        if last:
            raise _truncated(path, last) from error
        raise ImfDeployError(
            f"the shard {path} is not an uncompressed tar ({shorten(str(error))})", "Unpack or re-download it"
        ) from error
    with path.open("rb") as file:
        file.seek(end)
        # The end mark is two blocks of zeros. tarfile also treats damaged headers and a truncated file as an
        # end.
        if file.read(_BLOCK) != bytes(_BLOCK) and samples:
            raise _truncated(path, list(samples)[-1].lstrip("/"))
    entries = []
    for key, sample in samples.items():
        if sample.picture is None or sample.token is None:
            raise _incomplete(path, key, sample, others)
        entries.append((sample.picture.offset_data, sample.picture.size, sample.token, sample.mark))
    return entries


def _add(
    sample: _Sample,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: Path,
    is_picture: Callable[[bytes], bool],
) -> None:
    """Add an image, of which only the first bytes are inspected, or a class."""
    if not member.name.lower().endswith(_CLASSES):
        if sample.picture:
            raise _sample_error(path, member.name, "its sample has a second image")
        if member.size > LARGEST_FILE:
            raise unreadable(f"{path}, member {member.name}", f"it is larger than {LARGEST_FILE >> 20} MiB")
        pieces = _pieces(tar, member)
        if not is_picture(pieces[:_HEAD]):
            why = f"it is not one of {', '.join(FORMATS)}" if member.size else "it is empty"
            raise unreadable(f"{path}, member {member.name}", why)
        sample.picture, sample.mark = member, mark_of(str(member.size).encode() + pieces)
    elif member.name.lower().endswith(".cls") or sample.token is None:
        sample.token = _token(tar, member, path)


def _incomplete(path: Path, key: str, sample: _Sample, others: dict[str, str]) -> UsageError:
    if sample.picture:
        return _sample_error(path, key.lstrip("/"), "it has an image but no class")
    what = "it has a class but no image"
    if key in others:
        what += f", and {others[key] or 'a missing extension'} is not a supported image type"
    return _sample_error(path, key.lstrip("/"), what)


def _pillow_accepts() -> Callable[[bytes], bool]:
    """Return a function that recognises from its first bytes whether a file is one of ``FORMATS``."""
    from PIL import Image

    Image.init()
    accept = [Image.OPEN[name][1] for name in FORMATS]
    # Some return a sentence if another build of Pillow could read the file.
    return lambda head: any(test is None or bool(test(head)) for test in accept)


def _pieces(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return a member's content; for a large member its beginning, middle and end."""
    file, size = tar.extractfile(member), member.size
    if file is None:
        return b""
    if size <= 3 * _PIECE:
        return file.read(size)
    pieces = []
    for start in (0, (size - _PIECE) // 2, size - _PIECE):
        file.seek(start)
        pieces.append(file.read(_PIECE))
    return b"".join(pieces)


def _token(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Return the class in a ``.cls`` or ``.json`` member: an integer or a name."""
    if member.size > _LARGEST_CLASS:
        raise _sample_error(path, member.name, f"it is larger than {_LARGEST_CLASS >> 20} MiB")
    file = tar.extractfile(member)
    content = file.read(member.size) if file else b""
    where = f"{member.name} in the shard {path}"
    if member.name.lower().endswith(".cls"):
        try:
            value = content.decode().strip()
        except ValueError as error:
            raise _sample_error(path, member.name, "it is not a word in UTF-8") from error
    else:
        try:
            value = parse_object(content, where)["label"]
        except KeyError as error:
            raise _sample_error(path, member.name, 'it is not {"label": …}') from error
        except ImfDeployError as error:
            raise UsageError(error.what, 'Write {"label": …}, or KEY.cls') from error
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _sample_error(path, member.name, "its class is neither an integer nor a name")
    try:
        token = str(value).strip()
    except ValueError as error:  # Python refuses to print integers of thousands of digits
        raise _sample_error(path, member.name, "its class is an integer of thousands of digits") from error
    if not token:
        raise _sample_error(path, member.name, "its class is neither an integer nor a name")
    return class_name(token, where)


def _truncated(path: Path, member: str) -> ImfDeployError:
    return ImfDeployError(
        f"the shard {path} is truncated or damaged at or after member {member}",
        "Download it again, or leave it out of `data`",
    )


def _sample_error(path: Path, member: str, why: str) -> UsageError:
    return UsageError(
        f"the shard {path} has a sample that cannot be used, {member}: {why}",
        "Write KEY.jpg and KEY.cls for every sample",
    )
