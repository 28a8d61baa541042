from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.engine_header import read_engine_header


def test_header_of_a_real_engine(engine: Path) -> None:
    header = read_engine_header(engine)
    assert header.flavour == "rtx"
    assert header.targets == ("86", "89")
    assert not header.portable
    assert header.offset == 0
    assert header.size == engine.stat().st_size


def test_prefix_of_ultralytics(engine: Path, tmp_path: Path) -> None:
    text = json.dumps({"task": "classify", "names": {"0": "Bär"}}, ensure_ascii=False).encode()
    path = tmp_path / "yolo.engine"
    path.write_bytes(struct.pack("<i", len(text)) + text + engine.read_bytes())
    header = read_engine_header(path)
    assert header.offset == 4 + len(text)
    assert header.size == engine.stat().st_size
    assert header.targets == ("86", "89")


def test_full_tensorrt(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(b"ftrt" + bytes(20) + bytes((10, 9, 0, 34)) + bytes(100))
    header = read_engine_header(path)
    assert (header.flavour, header.version, header.size) == ("tensorrt", "10.9.0.34", 128)
    assert (header.targets, header.portable) == ((), False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"v",
        b"vtrt",
        b"ftrt" + bytes(20),
        b"vtrt" * 20,
        bytes(100),
        b"\xff" * 100,
        b"\x02\0\0\0{}",
        b"\x02\0\0\0{}vtrt",
        b"\x04\0\0\0null" + b"ftrt" + bytes(60),
        struct.pack("<I", 90_000) + b"[" * 90_000,
        struct.pack("<I", 0xFFFFFFFF) + b"{}" * 99,
    ],
)
def test_no_engine(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(content)
    with pytest.raises(ImfDeployError):
        read_engine_header(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.engine"):
        with pytest.raises(UsageError):
            read_engine_header(path)


def test_every_truncation_is_found(engine: Path, tmp_path: Path) -> None:
    whole, path, chance = engine.read_bytes(), tmp_path / "a.engine", random.Random(0)
    for length in [*range(64), *(chance.randrange(len(whole)) for _ in range(20)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ImfDeployError):
            read_engine_header(path)


def test_flipped_bytes_never_raise_anything_else(engine: Path, tmp_path: Path) -> None:
    whole, path, chance = engine.read_bytes(), tmp_path / "a.engine", random.Random(0)
    # The size is checked against the file, so a short one that says so is as good as a whole one.
    start = whole[:16] + struct.pack("<Q", 64) + whole[24:64]
    path.write_bytes(start)
    assert read_engine_header(path).targets == ("86", "89")
    refused = 0
    for _ in range(1500):
        content = bytearray(start)
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_engine_header(path)
        except ImfDeployError:
            refused += 1
    assert refused > 500


@settings(
    max_examples=100, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    magic=st.sampled_from([b"ftrt", b"vtrt", b"", b'\x0c\0\0\0{"a": 1}  ']),
    rest=st.binary(max_size=80),
    fits=st.booleans(),
)
@example(magic=b"vtrt", rest=b"", fits=False)
def test_any_bytes_have_a_header_or_an_error(tmp_path: Path, magic: bytes, rest: bytes, fits: bool) -> None:
    content = bytearray(magic + rest)
    if fits and len(content) >= 40:
        content[16:24] = len(content).to_bytes(8, "little")
        content[28:32] = content[:4]
    path = tmp_path / "any.engine"
    path.write_bytes(content)
    try:
        header = read_engine_header(path)
    except ImfDeployError as error:
        assert str(path) in error.what
    else:
        assert len(content) >= 40
        assert 0 <= header.offset < len(content)
        assert header.size == len(content) - header.offset
        assert header.version.count(".") == 3
