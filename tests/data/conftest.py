"""Shards as WebDataset writes them, made from folders of pictures."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

Members = list[tuple[str, bytes]]


def write_shard(path: Path, members: Members) -> Path:
    """Write a tar of ``(name, content)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def samples(folder: Path, form: str = "cls", start: int = 0) -> Members:
    """Return members for every ``CLASS/*.png`` of a folder, classes interleaved.

    ``form`` is ``cls`` (integers), ``name`` (names in .cls) or ``json`` (names).
    """
    classes = sorted(place.name for place in folder.iterdir())
    members: Members = []
    pictures = sorted(folder.glob("*/*.png"), key=lambda path: (path.name, path.parent.name))
    for number, path in enumerate(pictures, start):
        name = path.parent.name
        key = f"{number:04}"
        members.append((f"{key}.png", path.read_bytes()))
        if form == "json":
            members.append((f"{key}.json", f'{{"label": "{name}"}}'.encode()))
        else:
            said = str(classes.index(name)) if form == "cls" else name
            members.append((f"{key}.cls", said.encode()))
    return members


@pytest.fixture
def shards(image_folder: Path, tmp_path: Path) -> Path:
    """``train-0.tar``, ``train-1.tar`` and ``val-0.tar`` of the pictures of ``image_folder``."""
    folder = tmp_path / "shards"
    train = samples(image_folder / "train")
    write_shard(folder / "train-0.tar", train[:50])
    write_shard(folder / "train-1.tar", train[50:])
    write_shard(folder / "val-0.tar", samples(image_folder / "val"))
    return folder


@pytest.fixture(scope="session")
def make_shard() -> Callable[[Path, Members], Path]:
    """The function that writes a tar."""
    return write_shard


@pytest.fixture(scope="session")
def make_samples() -> Callable[..., Members]:
    """The function that turns a folder of pictures into members."""
    return samples
