"""A folder that is written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.files import sha256_file, write_error, write_text

SUMS = "SHA256SUMS"


@contextlib.contextmanager
def whole_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``; on success it gets ``SHA256SUMS``, and becomes ``path``.

    On any exception it is removed, and ``path`` stays as it was.

    Args:
        path: The folder to write.
        overwrite: Whether an earlier package there is replaced.

    Raises:
        UsageError: the path exists and may not be replaced, or is not a package.
        ImfDeployError: the folder cannot be written.
    """
    if path.exists() or path.is_symlink():
        if not (path / SUMS).is_file():
            raise UsageError(f"{path} exists and is not a package", "Use another `output`")
        if not overwrite:
            raise UsageError(f"{path} already exists", "Use another `output`, or `overwrite`")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        made = temporary / path.name
        made.mkdir()
        yield made
        write_sums(made)
        if path.exists():
            path.rename(temporary / "before")
        made.rename(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_sums(folder: Path) -> None:
    """Write the hashes of all files, as ``sha256sum --check SHA256SUMS`` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(folder / SUMS, "".join(lines))
