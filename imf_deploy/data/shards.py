"""WebDataset shards: tar files of pictures and their classes, read by position.

The ``webdataset`` package streams shards in their own order through a shuffle buffer. Here every picture
has a position, as in a folder: hold-outs, a seeded order, exact resuming and ranks need one. Members of a
tar are not compressed, so an index of offsets is enough; nothing is unpacked, and only the index is kept.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import torch

from imf_deploy.data.dataset import DataSet
from imf_deploy.data.encoded import Part, open_parts
from imf_deploy.data.shard_index import index_shards
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.progress import track

CLASS_NAMES = "classes.txt"
_ROLES = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "validation")
_HINT = "Give such as --data 'train-{000..009}.tar,val-{000..001}.tar', in quotes"


def are_shards(data: str) -> bool:
    """Return whether ``--data`` names shards: a pattern with ``.tar``, or a folder of such files.

    A folder that has class folders as well is a folder of pictures, with what it was unpacked from.
    """
    if not Path(data).is_dir():
        return data.endswith((".tar", ".tar}")) or ".tar," in data
    places = _places(data)
    try:
        classes = any(e.is_dir() and e.name not in _ROLES for place in places for e in place.iterdir())
    except OSError:
        return False  # whoever opens the folder will say so
    return any(list(place.glob("*.tar")) for place in places) and not classes


def _places(folder: str) -> list[Path]:
    return [place for place in (Path(folder), *(Path(folder, role) for role in _ROLES)) if place.is_dir()]


def open_shards(data: str, image_size: int) -> DataSet:
    """Open shards; splits that they do not have are left empty.

    The split of a shard is the first of the words ``train``, ``val``, ``valid``, ``validation`` and
    ``test`` in its name, or else its folder's name; where no shard has one, all are for training.
    Class names come from a ``classes.txt`` beside the first shard (one a line, in the order of the
    integers), or are the sorted set of what the shards say.

    Pictures that do not fit into memory are not decoded beforehand; a corrupt one is named when it is
    met. Nor are they hashed: shards are told apart by the headers of their members.

    Args:
        data: Paths with ``{000..009}`` and ``{a,b}``, separated by commas; or a folder.
        image_size: As :func:`imf_deploy.data.folder.open_folder` takes it.

    Raises:
        UsageError: a shard is missing, or the splits cannot be told.
        ImfDeployError: a shard is no whole tar, or a sample of it cannot be used.
    """
    by_split = _by_split(_files(data))
    total = sum(map(len, by_split.values()))
    with track("Indexing shards", total) as advance:
        indexed = {role: index_shards(files, advance) for role, files in by_split.items()}
    beside = by_split["train"][0].parent / CLASS_NAMES
    classes = _class_names(indexed["train"][1], beside)
    numbers = _numbers([token for _, said, _ in indexed.values() for token in said], classes, beside)
    parts = {
        role: Part(pictures, torch.tensor([numbers[token] for token in said])[which], check=False)
        for role, (pictures, said, which) in indexed.items()
    }
    if missing := set(range(len(classes))) - {numbers[token] for token in indexed["train"][1]}:
        raise ImfDeployError(
            f"{beside} names {len(missing)} class(es) without a training image, such as "
            f"'{classes[min(missing)]}'",
            "Remove their lines, or add images",
        )
    if len(classes) < 2:
        raise ImfDeployError(f"{data} has one class only ({classes[0]})", "A classifier needs two or more")
    name = by_split["train"][0].resolve().parent.name
    held = ", ".join(sorted({str(p.parent / "val*.tar") for p in by_split.get("validation", [])}))
    return open_parts(name, parts, classes, image_size, held)


def expand(pattern: str) -> list[str]:
    """Return the paths of one pattern with braces, in order.

    ``{08..11}`` counts with as many digits as its first number; ``{a,b}`` lists.
    """
    pieces = []
    for index, piece in enumerate(re.split(r"\{([^{}]*)\}", pattern)):
        if index % 2 == 0:
            pieces.append([piece])
        elif count := re.fullmatch(r"(\d+)\.\.(\d+)", piece):
            first, last = count.groups()
            pieces.append([str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)])
        else:
            pieces.append(piece.split(","))
    return ["".join(parts) for parts in product(*pieces)]


def _files(data: str) -> list[Path]:
    if Path(data).is_dir():
        return [path for place in _places(data) for path in sorted(place.glob("*.tar"))]
    patterns = re.findall(r"(?:\{[^{}]*\}|[^,{}])+", data)
    paths = [Path(path) for pattern in patterns for path in expand(pattern.strip())]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise UsageError(f"{len(missing)} of {len(paths)} shards are not there, such as {missing[0]}", _HINT)
    return paths


def _by_split(paths: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    unnamed = []
    for path in paths:
        words = [*re.findall("[a-z]+", path.stem.lower()), path.resolve().parent.name.lower()]
        role = next((_ROLES[word] for word in words if word in _ROLES), "")
        found.setdefault(role, []).append(path)
        unnamed += [] if role else [path]
    if unnamed and len(found) > 1:
        raise UsageError(
            f"{unnamed[0]} does not say which split it is of, and other shards do",
            "Put train, val or test into the name of every shard",
        )
    if unnamed:
        return {"train": unnamed}
    if "train" not in found:
        raise UsageError("there is no training shard", _HINT)
    return {role: found[role] for role in ("train", "validation", "test") if role in found}


def _class_names(tokens: list[str], beside: Path) -> list[str]:
    """Return the names of the classes: what the file says, or else the sorted set."""
    if not beside.is_file():
        return sorted(tokens, key=int) if all(t.isdecimal() for t in tokens) else sorted(tokens)
    try:
        names = [line.strip() for line in beside.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ImfDeployError(f"cannot read {beside} ({error})", "Write one class name a line") from error
    if len(set(names)) < len(names) or not names:
        raise ImfDeployError(f"{beside} is empty or names a class twice", "Write every class once")
    return names


def _numbers(tokens: list[str], classes: list[str], beside: Path) -> dict[str, int]:
    """Return the class of each token: they are names where all of them are names, else integers."""
    read = {name: number for number, name in enumerate(classes)}
    listed = beside.is_file()
    if listed and not all(token in read for token in tokens) and all(token.isdecimal() for token in tokens):
        read = {token: int(token) for token in tokens if int(token) < len(classes)}
    if wrong := [token for token in tokens if token not in read]:
        raise ImfDeployError(
            f"a shard holds the class '{wrong[0]}', which is none of the {len(classes)} of "
            + (str(beside) if listed else "the training shards"),
            f"Repair the shard, or {CLASS_NAMES} beside the shards",
        )
    return read
