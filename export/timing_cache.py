"""Store TensorRT's timings in a file, so that the next build need not measure them again.

The format of the file is TensorRT's own, as for ``trtexec --timingCacheFile``.
"""

import logging
import re
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.builder import Session
from imf_deploy.files import write_bytes
from imf_deploy.progress import say
from imf_deploy.records.making import CacheUse, Gpu

_LARGEST = 1 << 30
"""Maximum size in bytes; caches of a few networks have megabytes."""


def own_cache(folder: Path, version: str, gpu: Gpu | None) -> Path:
    """Return the cache next to the engines, for a user who names none.

    Args:
        folder: Folder of the engines.
        version: Version of TensorRT.
        gpu: GPU that the engines are built on; it and the version are in the name of the file.
    """
    words = f"{gpu.name} sm{gpu.capability}" if gpu else "any"
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return folder / f"tensorrt-{version}-{slug}.timing-cache"


def check_cache(path: Path | None) -> None:
    """Refuse a file for ``timing_cache`` that cannot be one, before anything is built.

    Raises:
        UsageError: the path is not a regular file, or the file is far too large.
    """
    if path is None or not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"`timing_cache` {path} is not a regular file", "Use a file, which need not exist")
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"`timing_cache` {path} is larger than 1 GiB", "Use another file")


class TimingCache:
    """The timings of one build.

    Args:
        session: The session that builds.
        config: ``IBuilderConfig`` that the timings are attached to.
        file: File that they are read from, and written to by :meth:`save`.
        shared: Whether the user named it. Such a file is never replaced by timings of another GPU.
    """

    def __init__(self, session: Session, config: Any, file: Path, *, shared: bool) -> None:
        self._config, self._file = config, file
        self._keep = True
        known = _read(file)
        self._found = bool(known) and self._attach(known)
        if known and not self._found:
            session.log.clear()  # messages about the mismatch do not concern the build
            self._keep = not shared
            say(
                f"The timing cache {file} was not made by {session.trt.__name__} "
                f"{session.trt.__version__} on this GPU, and is "
                + ("ignored" if shared else "created again")
                + ("; delete it to start another there" if shared else ""),
                logging.WARNING,
            )
        if not self._found and not self._attach(b""):
            self._keep = False
        self._before = self._size()

    def save(self) -> CacheUse:
        """Write the timings, atomically, if the build added some; a failure is only reported."""
        complete = self._found and self._size() == self._before
        if self._keep and not complete:
            try:
                write_bytes(self._file, bytes(self._config.get_timing_cache().serialize()))
            except ImfDeployError as error:
                say(f"The timing cache is not stored: {error}", logging.WARNING)
        return CacheUse(self._file.name, self._found, complete)

    def _attach(self, content: bytes) -> bool:
        cache = self._config.create_timing_cache(content)
        return cache is not None and bool(self._config.set_timing_cache(cache, ignore_mismatch=False))

    def _size(self) -> int:
        cache = self._config.get_timing_cache()
        return 0 if cache is None else len(bytes(cache.serialize()))


def _read(path: Path) -> bytes:
    """Return the content of a cache; empty if it does not exist, or cannot be read."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else b""
    except OSError as error:
        say(f"The timing cache {path} cannot be read: {error.strerror}", logging.WARNING)
        return b""
