"""Stage: write a package of a run, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.packages import directory, djl, huggingface, triton
from imf_deploy.packages.files import write_notice
from imf_deploy.packages.folder import whole_folder
from imf_deploy.packages.source import Source, open_source
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.package import PackageSettings, Target

_EVERY = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class _Kind:
    """A kind of package.

    Attributes:
        write: Writes it into an empty folder.
        precisions: Precisions that its file can have.
    """

    write: Callable[[Source, Path], None]
    precisions: tuple[str, ...] = _EVERY


TARGETS: dict[Target, _Kind] = {
    "directory": _Kind(directory.write),
    # Other files of the product are in the same package.
    "huggingface": _Kind(huggingface.write, ("fp32",)),
    "triton": _Kind(triton.write),
    "djl": _Kind(djl.write),
}
"""For each system, how its package is written."""


def package(
    run: Path,
    target: Target,
    output: Path | None = None,
    wanted: PackageSettings = PackageSettings(),  # noqa: B008, frozen
    place: PlaceSettings = PlaceSettings(),  # noqa: B008, frozen
    overwrite: bool = False,
) -> Path:
    """Write a package of a finished run and return its folder.

    Args:
        run: Folder of a finished run.
        target: The system that the package is for.
        output: Folder to write; by default ``RUN/packages/TARGET-NAME``.
        wanted: The file to package.
        place: Where the run's data is, if it was moved.
        overwrite: Whether an earlier package is replaced.

    Raises:
        UsageError: the run has no such file, or it missed its gate, or the folder may not be written.
        GateError: a packaged file does not answer as the file of the run does.
        ImfDeployError: a record is damaged, or the folder cannot be written.
    """
    kind = TARGETS[target]
    source = open_source(run, wanted, place, kind.precisions)
    path = output or run / "packages" / f"{target}-{source.name}"
    with whole_folder(path, overwrite) as folder:
        kind.write(source, folder)
        write_notice(folder, source)
    return path
