"""Where timings are kept, and what happens to a file that holds none; real ones are in the gpu tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.export.timing_cache import TimingCache, check_cache, own_cache
from imf_deploy.records.making import CacheUse, Gpu

H200 = Gpu("NVIDIA H200", "90", "13.0")


def test_the_name_has_what_timings_depend_on(tmp_path: Path) -> None:
    file = own_cache(tmp_path, "10.6.0", H200)
    assert file == tmp_path / "tensorrt-10.6.0-nvidia-h200-sm90.timing-cache"
    names = {
        own_cache(tmp_path, version, gpu).name
        for version in ("10.6.0", "10.8.0")
        for gpu in (H200, Gpu("NVIDIA H100 PCIe", "90", "13.0"), Gpu("NVIDIA L4", "89", "13.0"))
    }
    assert len(names) == 6
    odd = own_cache(tmp_path, "10.6.0", Gpu("../../A/B", "80", ""))
    assert odd.parent == tmp_path


def test_what_cannot_be_a_cache_is_refused(tmp_path: Path) -> None:
    check_cache(None)
    check_cache(tmp_path / "none")
    with pytest.raises(UsageError, match="not a regular file"):
        check_cache(tmp_path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(UsageError, match="larger than 1 GiB"):
        check_cache(large)


class Config:
    """Takes caches that begin with ``ours``, as TensorRT takes those of its own GPU and version."""

    def __init__(self) -> None:
        self.content = b""

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        content = cache.serialize()
        if content and not content.startswith(b"ours"):
            return False
        self.content = content or b"ours"
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.content)


@pytest.fixture
def session() -> Any:
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.6.0")
    return SimpleNamespace(trt=trt, log=SimpleNamespace(clear=lambda: None))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("known", "added", "use", "kept"),
    [
        (None, b"+1", (False, False), b"ours+1"),
        (b"ours+1", b"", (True, True), b"ours+1"),
        (b"ours+1", b"+2", (True, False), b"ours+1+2"),
    ],
)
def test_timings_are_read_and_added(
    session: Any,
    tmp_path: Path,
    known: bytes | None,
    added: bytes,
    use: tuple[bool, bool],
    kept: bytes,
    shared: bool,
) -> None:
    path, config = tmp_path / "cache", Config()
    if known:
        path.write_bytes(known)
    cache = TimingCache(session, config, path, shared=shared)
    config.content += added
    assert cache.save() == CacheUse("cache", *use)
    assert path.read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(("shared", "kept"), [(True, b"theirs"), (False, b"ours+1")])
def test_foreign_timings_are_ignored(
    session: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, shared: bool, kept: bytes
) -> None:
    path, config = tmp_path / "cache", Config()
    path.write_bytes(b"theirs")
    cache = TimingCache(session, config, path, shared=shared)
    said = " ".join(caplog.text.split())
    assert "was not made by tensorrt 10.6.0 on this GPU" in said
    assert ("delete it" in said) == shared
    config.content += b"+1"
    assert cache.save() == CacheUse("cache", found=False, complete=False)
    assert path.read_bytes() == kept


def test_timings_that_cannot_be_written_cost_no_engine(
    session: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = TimingCache(session, Config(), tmp_path / "file" / "cache", shared=True)
    assert not cache.save().complete
    assert "The timing cache is not stored" in caplog.text
