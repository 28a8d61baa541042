"""Files that are complete or absent: atomic writes, hashes, and paths that stay in their folder."""

import contextlib
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.untrusted import JSON_BYTES, parse_object

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRITE_PROBLEMS = {
    errno.ENOSPC: ("the disk is full", "Free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space and run the same command again"),
    errno.EFBIG: ("the file would be too large", "Choose another `output` folder"),
    errno.EACCES: ("permission denied", "Choose an `output` folder that you may write to"),
    errno.EPERM: ("permission denied", "Choose an `output` folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "Choose another `output` folder"),
    errno.EPIPE: ("the program that reads it has ended", "Run the command again, with its output to a file"),
}


def write_error(path: Path | str, error: OSError, action: str = "write") -> ImfDeployError:
    """Convert an operating system error on writing ``path`` into one with a next step."""
    why, hint = WRITE_PROBLEMS.get(
        error.errno or 0, (error.strerror or str(error), "Choose another `output` folder")
    )
    return ImfDeployError(f"cannot {action} {path}: {why}", hint)


def write_problem(error: BaseException, path: Path | str = "") -> ImfDeployError | None:
    """Return the error to report if an exception, or one of its causes, is a failed write; else ``None``.

    Libraries written in other languages raise their own exceptions, which contain the system's text.

    Args:
        error: The exception.
        path: Path that was written; if empty, the path in the exception is used.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in WRITE_PROBLEMS:
            # Without the name of a file, a permission error has another cause.
            if path or current.filename or current.errno in (*_FULL, errno.EPIPE):
                name = "the output" if current.errno == errno.EPIPE else "a file"
                return write_error(path or current.filename or name, current)
        elif isinstance(current, FileNotFoundError) and "temporary directory" in str(current):  # tempfile
            return ImfDeployError(
                "there is no folder for temporary files that can be written", "Free some space, or set TMPDIR"
            )
        elif not isinstance(current, ImfDeployError):
            for number in _FULL:
                if os.strerror(number) in str(current) or f"(os error {number})" in str(current):
                    return write_error(path or "a file", OSError(number, os.strerror(number)))
        current = current.__cause__ or current.__context__
    return None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on success it is synced and renamed to ``path``.

    On any exception, including ``KeyboardInterrupt``, the temporary file is removed and ``path`` keeps its
    previous content.

    A link is followed, as when a file is opened to be written.

    Raises:
        UsageError: the path exists and is not a regular file, such as a pipe or a device.
        ImfDeployError: the folder or the file cannot be written (full disk, permissions).
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    # A rename would replace it by a file.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} exists and is not a regular file", "Use another path")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept because some writers (torch.onnx, safetensors) depend on it.
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; result files follow the user's umask instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except ImfDeployError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    except Exception as error:
        problem = write_problem(error, path)
        if problem is None:
            raise
        raise problem from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; not every file system can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` atomically, as UTF-8.

    Raises:
        ImfDeployError: the text contains the name of a file that is not UTF-8, or cannot be written.
    """
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        name = content[max(error.start - 40, 0) : error.end].rsplit('"', maxsplit=1)[-1]
        raise ImfDeployError(
            f"cannot write {path}: '{name}' is not UTF-8 text", "Rename the file or the folder of this name"
        ) from error
    write_bytes(path, encoded)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` atomically, as indented JSON with a final newline.

    Numbers that are not finite become null, because JSON cannot express them.
    """
    write_text(path, json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values to ``path`` atomically, as YAML in the order given."""
    import yaml

    write_text(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))


def finite(content: Any) -> Any:
    """Return ``content`` as JSON stores it: lists for tuples, ``None`` for a number that is not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a regular file, within the limits of :mod:`imf_deploy.untrusted`.

    Raises:
        ImfDeployError: the file is missing, unreadable, too large, or not a JSON object.
    """
    try:
        if path.exists() and not path.is_file():
            raise ImfDeployError(f"{path} is not a regular file", "Use a JSON file")
        with path.open("rb") as file:
            content = file.read(JSON_BYTES + 1)
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error
    return parse_object(content, str(path), "Create it again, or delete it and start over")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error


def fingerprint(content: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(known: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of the fields in which two JSON objects differ, such as ``distill.train.lr``."""
    names = []
    for key in sorted({*known, *wanted}):
        a, b = known.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key}")
    return names


def existing_file(path: Path, purpose: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        UsageError: it is not a file; the message names ``purpose``.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, but {purpose} must be a file")
    if not path.is_file():
        raise UsageError(f"there is no file {path} ({purpose})", "Check the path")
    return path
