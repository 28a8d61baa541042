"""Shards that anybody may have written: every fault is one line that names shard and member."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imf_deploy.data import DataSet, classes, open_data
from imf_deploy.data.shard_index import index_shards
from imf_deploy.data.shards import SHARDS_LIMIT, expand
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings

Members = list[tuple[str, bytes]]
MakeShard = Callable[[Path, Members], Path]
MakeSamples = Callable[..., Members]


def opened(data: object) -> DataSet:
    return open_data(DataSettings(str(data), val_fraction=0.0))


def problem(data: object) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        opened(data)
    message = str(caught.value)
    message.encode()
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 700
    return caught.value


@pytest.mark.parametrize(
    "member",
    [
        ("z.json", b"[" * 5000 + b"]" * 5000),
        ("z.json", b'{"label": ' + b"[" * 200 + b"]" * 200 + b"}"),
        ("z.json", b'{"label": ' + b"9" * 5000 + b"}"),
        ("z.json", b'{"label": "\\ud800"}'),
        ("z.json", b'{"label": "a\\u001b[31m"}'),
        ("z.json", b'{"label": "\\u202ecod.exe"}'),
        ("z.json", b'{"label": null}'),
        ("z.json", b'{"label": true}'),
        ("z.json", b'{"label": {"a": 1}}'),
        ("z.json", b'{"label": ""}'),
        ("z.json", b'{"label"'),
        ("z.json", b"\xff\xfe"),
        ("z.json", b" " * (1 << 20) + b"{}"),
        ("z.cls", b"9" * 5000),
        ("z.cls", b"x" * 300),
        ("z.cls", b"a\x1b]0;title\x07"),
        ("z.cls", b"a\nb"),
        ("z.cls", b"\xc3"),
        ("z.cls", b"1" * ((1 << 20) + 1)),
    ],
)
def test_a_class_that_cannot_be_used(
    image_folder: Path,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    member: tuple[str, bytes],
) -> None:
    members = make_samples(image_folder / "train")
    shard = make_shard(tmp_path / "train-0.tar", [*members, ("z.png", members[0][1]), member])
    error = problem(shard)
    assert isinstance(error, UsageError)
    assert str(shard) in error.what
    assert member[0] in error.what


def test_names_that_steer_a_terminal(
    image_folder: Path, tmp_path: Path, make_shard: MakeShard, make_samples: MakeSamples
) -> None:
    shard = make_shard(
        tmp_path / "train-0.tar", [*make_samples(image_folder / "train"), ("a\x1b[2J\u202e.png", b"x")]
    )
    assert "a\\x1b[2J\\u202e.png" in problem(shard).what


@pytest.mark.parametrize("name", ["classes.txt"])
@pytest.mark.parametrize(
    "content",
    [b"a\nb\x1b[31m\nc", b"a\xff\nb\nc", b"", b"a\na\nb", b"x" * 300 + b"\nb\nc", b"a\xe2\x80\xa8b\nc\nd"],
)
def test_a_file_of_classes(
    image_folder: Path,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    name: str,
    content: bytes,
) -> None:
    shard = make_shard(tmp_path / "train-0.tar", make_samples(image_folder / "train"))
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in problem(shard).what


def test_a_file_of_classes_that_is_too_large(
    image_folder: Path,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = make_shard(tmp_path / "train-0.tar", make_samples(image_folder / "train"))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert opened(shard).preprocess.labels == ("a", "b", "c")
    monkeypatch.setattr(classes, "_NAMES_BYTES", 4)
    assert "it is larger than" in problem(shard).what


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..99999999999}.tar",
        "{99999999999..99999999999999}.tar",
        "a-" + "{0..9}" * 30 + ".tar",
        "{" + "a," * 200_000 + "}.tar",
        ",".join(["{0..60000}.tar"] * 2),
    ],
)
def test_braces_that_name_too_many(pattern: str) -> None:
    error = problem(pattern)
    assert isinstance(error, UsageError)
    assert f"more than {SHARDS_LIMIT:,} shards" in error.what


@pytest.mark.parametrize("pattern", ["{9..1}.tar", ",.tar,", "{" + "9" * 5000 + ".." + "9" * 5000 + "}.tar"])
def test_braces_that_name_nothing(pattern: str) -> None:
    assert isinstance(problem(pattern), UsageError)


def test_the_most_that_braces_may_name() -> None:
    assert len(expand(f"{{1..{SHARDS_LIMIT}}}.tar")) == SHARDS_LIMIT


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("train-0", "training-1"), "train"),
        (("train-0", "val-0", "dev-0"), "validation"),
        (("train", "test", "testing"), "test"),
    ],
)
def test_two_names_of_one_split(
    image_folder: Path,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    names: tuple[str, ...],
    clash: str,
) -> None:
    for name in names:
        make_shard(tmp_path / f"{name}.tar", make_samples(image_folder / "val"))
    assert f"have different names of the {clash} split" in problem(tmp_path).what


@pytest.mark.parametrize(
    "names", [("Training-0", "Testing-0"), ("TRAIN", "Dev"), ("my-train-0", "my-eval-0")]
)
def test_usual_names(
    image_folder: Path,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    names: tuple[str, str],
) -> None:
    for name, part in zip(names, ("train", "val"), strict=True):
        make_shard(tmp_path / f"{name}.tar", make_samples(image_folder / part))
    data = opened(tmp_path)
    assert (len(data.train), len(data.test)) == (48, 18)
    assert not [note for note in data.notes if "copies" in note]


def test_a_copied_shard_is_said(
    image_folder: Path, tmp_path: Path, make_shard: MakeShard, make_samples: MakeSamples
) -> None:
    members = make_samples(image_folder / "train")
    make_shard(tmp_path / "train-0.tar", members)
    make_shard(tmp_path / "val-0.tar", [(f"other-{name}", content) for name, content in members[:20]])
    (note,) = (note for note in opened(tmp_path).notes if "copies" in note)
    assert note.startswith("All 10 test images are copies of training images")


def test_large_images_are_compared_by_pieces(tmp_path: Path, make_shard: MakeShard) -> None:
    random = np.random.default_rng(0)
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(16)
    content = [head + random.bytes(50_000), head + random.bytes(50_000)]
    content.append(content[0])
    members = [(f"{n}.png", c) for n, c in enumerate(content)] + [(f"{n}.cls", b"0") for n in range(3)]
    index = index_shards([make_shard(tmp_path / "train-0.tar", members)], lambda _: None)
    first, second, third = index.marks().tolist()
    assert first == third != second


def header(size: bytes, kind: bytes = tarfile.REGTYPE, name: str = "0.png") -> bytes:
    """Return the header of a member, with a checksum that is right."""
    about = tarfile.TarInfo(name)
    about.type = kind
    block = bytearray(about.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "size",
    [
        b"77777777777\0",
        b"\x80" + (1 << 62).to_bytes(11, "big"),
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,  # minus one
        b"\xff" * 10 + b"\0\0",
    ],
)
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_sizes_of_members(tmp_path: Path, size: bytes, kind: bytes) -> None:
    shard = tmp_path / "train-0.tar"
    shard.write_bytes(header(size, kind) + bytes(4096))
    assert str(shard) in problem(shard).what


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    shard = tmp_path / "train-0.tar"
    with shard.open("wb") as file:
        file.write(header(b"00040000000\0", tarfile.GNUTYPE_LONGNAME))  # 1 GiB, and it is really there
        file.truncate(5 << 30)
    assert str(shard) in problem(shard).what


def test_headers_of_headers(tmp_path: Path) -> None:
    shard = tmp_path / "train-0.tar"
    one = header(b"00000000002\0", tarfile.GNUTYPE_LONGNAME) + b"a\0".ljust(512, b"\0")
    shard.write_bytes(one * 5000)
    assert str(shard) in problem(shard).what


def test_extended_headers_of_anything(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for content in (
        b"9" * 5000 + b" size=1\n",
        b"20 size=" + b"9" * 11 + b"\n",
        b"12 size=-9\n\n",
        b"\0" * 40,
    ):
        shard = tmp_path / "train-0.tar"
        block = content.ljust(-(-len(content) // 512) * 512, b"\0")
        size = b"%011o\0" % len(content)
        shard.write_bytes(
            header(size, tarfile.XHDTYPE) + block + header(b"00000000003\0") + random.bytes(512)
        )
        assert str(shard) in problem(shard).what


def test_damaged_bytes_never_raise_anything_else(
    image_folder: Path, tmp_path: Path, make_shard: MakeShard, make_samples: MakeSamples
) -> None:
    random = np.random.default_rng(0)
    members = make_samples(image_folder / "val", "json")
    whole = make_shard(tmp_path / "train-0.tar", members).read_bytes()
    shard = tmp_path / "train-0.tar"
    refused = 0
    for _ in range(150):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(0, len(whole), 6)] = random.integers(0, 256, 6)
        start = int(random.integers(0, len(whole) // 512)) * 512  # headers are rare among the bytes
        damaged[start + random.integers(0, 200, 3)] = random.integers(0, 256, 3)
        shard.write_bytes(damaged[: int(random.integers(len(whole) // 2, len(whole) + 1))].tobytes())
        try:
            index_shards([shard], lambda _: None)
        except ImfDeployError as error:
            refused += 1
            assert str(shard) in str(error)
    assert refused > 50


def test_a_long_list_of_members_is_read(tmp_path: Path) -> None:
    """Nothing that stands in the way of damaged shards stands in the way of whole ones."""
    content = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (16, 16)).save(content, "PNG")
    shard = tmp_path / "train-0.tar"
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(200):
            for ending, data in ((".png", content.getvalue()), (".cls", str(number % 2).encode())):
                about: Any = tarfile.TarInfo("ä" * 150 + f"/{number}{ending}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    assert len(opened(shard).train) == 160
