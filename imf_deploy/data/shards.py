"""WebDataset shards: tar files of images and their classes, read by position.

The ``webdataset`` package streams shards in their own order through a shuffle buffer. Here every image has a
position, as in a folder, because hold-outs, a seeded order, exact resuming and several processes need one.
Members of a tar file are not compressed, so an index of offsets is enough; nothing is unpacked.
"""

import math
import re
from itertools import product
from pathlib import Path

import torch

from imf_deploy.data.classes import CLASS_NAMES, number_classes
from imf_deploy.data.dataset import DataSet
from imf_deploy.data.encoded import Part, open_parts
from imf_deploy.data.roles import ROLES, Role, role_of, word_in
from imf_deploy.data.shard_index import index_shards
from imf_deploy.data.walk import exists, real
from imf_deploy.errors import UsageError
from imf_deploy.progress import track
from imf_deploy.settings import DataSettings
from imf_deploy.untrusted import shorten

SHARDS_LIMIT = 100_000
"""Maximum number of shards in ``data``; ImageNet-21k has 2,000."""
_HINT = "For example: `data` 'train-{000..009}.tar,val-{000..001}.tar', in quotes"


def are_shards(data: str) -> bool:
    """Return whether ``data`` names shards: a pattern with ``.tar``, or a folder of such files.

    A folder that also has class folders is a folder of images, with the archive that it was unpacked from.
    """
    if not exists(Path(data), Path.is_dir):
        return data.endswith((".tar", ".tar}")) or ".tar," in data
    try:
        places = _places(data)
        classes = any(e.is_dir() and not role_of(e.name) for place in places for e in place.iterdir())
        return any(list(place.glob("*.tar")) for place in places) and not classes
    except OSError:
        return False  # opening the folder reports the error


def _places(folder: str) -> list[Path]:
    inside = sorted(Path(folder).iterdir())
    return [Path(folder), *(place for place in inside if place.is_dir() and role_of(place.name))]


def open_shards(data: str, config: DataSettings) -> DataSet:
    """Open shards; missing splits are left empty.

    The split of a shard is given by the first word in its name that :mod:`imf_deploy.data.roles` knows, such
    as ``train`` or ``val``, or otherwise by the name of its folder; if no shard has one, all are for
    training. Class names are read from a ``classes.txt`` next to the first shard (one per line, in the order
    of the integers), or are the sorted set of the classes in the shards.

    Images that do not fit into memory are not decoded beforehand; a corrupt one is reported when it is read.
    They are not hashed either: shards are identified by the headers of their members.

    Args:
        data: Paths with ``{000..009}`` and ``{a,b}``, separated by commas; or a folder.
        config: See :func:`imf_deploy.data.folder.open_folder`.

    Raises:
        UsageError: a shard is missing, the splits are ambiguous, or a sample of a shard cannot be used.
        ImfDeployError: a shard is not a complete tar file, or one of its images cannot be read.
    """
    by_split = _by_split(_files(data))
    with track("Indexing shards", sum(map(len, by_split.values()))) as advance:
        indexed = {role: index_shards(files, advance) for role, files in by_split.items()}
    beside = by_split["train"][0].parent / CLASS_NAMES
    every = [token for index in indexed.values() for token in index.tokens]
    classes, numbers = number_classes(indexed["train"].tokens, every, beside, data, "a shard")
    parts = {
        role: Part(
            index.pictures,
            torch.tensor([numbers[token] for token in index.tokens])[index.which],
            index.marks,
            check=False,
        )
        for role, index in indexed.items()
    }
    name = by_split["train"][0].resolve().parent.name
    held = ", ".join(sorted({str(p.parent / "val*.tar") for p in by_split.get("validation", [])}))
    return open_parts(name, parts, classes, config, held)


def expand(pattern: str) -> list[str]:
    """Return the paths of one pattern with braces, in order.

    ``{08..11}`` counts with as many digits as its first number; ``{a,b}`` is a list.
    """
    pieces = []
    for index, piece in enumerate(re.split(r"\{([^{}]*)\}", pattern)):
        if index % 2 == 0:
            pieces.append([piece])
        elif count := re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", piece):
            first, last = count.groups()
            # One more than the limit is enough to exceed it.
            numbers = range(int(first), min(int(last), int(first) + SHARDS_LIMIT) + 1)
            pieces.append([str(n).zfill(len(first)) for n in numbers])
        else:
            pieces.append(piece.split(","))
    if math.prod(map(len, pieces)) > SHARDS_LIMIT:
        raise _too_many(pattern)
    return ["".join(parts) for parts in product(*pieces)]


def _too_many(pattern: str) -> UsageError:
    return UsageError(f"`data` {shorten(pattern)} names more than {SHARDS_LIMIT:,} shards", _HINT)


def _files(data: str) -> list[Path]:
    if exists(Path(data), Path.is_dir):
        paths = [path for place in _places(data) for path in sorted(place.glob("*.tar"))]
    else:
        paths = []
        for pattern in re.findall(r"(?:\{[^{}]*\}|[^,{}])+", data):
            paths += map(Path, expand(pattern.strip()))
            if len(paths) > SHARDS_LIMIT:
                break
    if not paths:
        raise UsageError(f"`data` {shorten(data)} names no shards", _HINT)
    if len(paths) > SHARDS_LIMIT:
        raise _too_many(data)
    if missing := [path for path in paths if not exists(path, Path.is_file)]:
        if exists(missing[0]):
            raise UsageError(f"the shard {missing[0]} is not a regular file", "Leave it out of `data`")
        example = shorten(str(missing[0]))
        raise UsageError(f"{len(missing)} of {len(paths)} shards do not exist, such as {example}", _HINT)
    return paths


def _by_split(paths: list[Path]) -> dict[Role, list[Path]]:
    by_role: dict[Role, list[Path]] = {}
    words: dict[Role, dict[str, Path]] = {}
    unnamed = []
    for path in paths:
        word = word_in(path.stem) or real(path).parent.name.lower()
        if role := role_of(word):
            by_role.setdefault(role, []).append(path)
            words.setdefault(role, {})[word] = path
        else:
            unnamed.append(path)
    if unnamed and by_role:
        raise UsageError(
            f"the name of {unnamed[0]} does not give its split, but those of other shards do",
            "Put train, val or test into the name of every shard",
        )
    if unnamed:
        return {"train": unnamed}
    if "train" not in by_role:
        raise UsageError("there is no training shard", _HINT)
    for role, by_word in words.items():
        if len(by_word) > 1:
            raise UsageError(
                f"{' and '.join(map(str, by_word.values()))} have different names of the {role} split",
                "Give the shards of a split one name; the usual ones are train, val and test",
            )
    return {role: by_role[role] for role in ROLES if role in by_role}
