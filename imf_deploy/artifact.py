"""Records next to their files: written after them, and checked against them when they are read."""

import tempfile
from pathlib import Path

from typing_extensions import TypeVar

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import read_json, sha256_file, write_error
from imf_deploy.forms import from_json
from imf_deploy.records.files import KINDS, Artifact, sidecar_path
from imf_deploy.records.upgrade import take_schema, upgrade_file

Kind = TypeVar("Kind", bound=Artifact, default=Artifact)
_AGAIN = "Create the file again"
_WRITERS = {"TeacherFile": "train-teacher", "DistilledFile": "distill", "ProductFile": "strip"}


def read_record(sidecar: Path) -> Artifact:
    """Read the record of a file, even if the file does not exist.

    Args:
        sidecar: ``<file>.json``. The record's path is that of the file next to it, whatever the record
            contains.

    Raises:
        ImfDeployError: the record is damaged, or another version wrote it.
    """
    content = read_json(sidecar)
    if take_schema(content, str(sidecar), _AGAIN):
        content = upgrade_file(content)
    kind = content.get("kind")
    try:
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"kind should be one of {', '.join(KINDS)}")
        record = from_json(KINDS[kind], content)
        if "color" not in content["preprocess"]:  # nothing is guessed of a record
            raise ValueError("preprocess.color: Field required")
    except ValueError as error:
        raise ImfDeployError(f"{sidecar} is damaged ({error})", _AGAIN) from error
    return record.revised(path=sidecar.with_suffix(""))


def load_artifact(path: Path, kind: type[Kind] = Artifact) -> Kind:  # type: ignore[assignment]
    """Read the record of a file and check it against the file.

    Args:
        path: The file.
        kind: Required type of the record.

    Raises:
        ImfDeployError: there is no record, or it is damaged, has another type, or belongs to other content.
    """
    sidecar = sidecar_path(path)
    if not path.is_file():
        raise ImfDeployError(f"there is no file {path}", "Run the stage that makes it")
    if not sidecar.is_file():
        raise ImfDeployError(f"{path} has no sidecar {sidecar.name}", "Keep the two files together")
    artifact = read_record(sidecar)
    if artifact.sha256 != sha256_file(path):
        raise ImfDeployError(f"{path} was changed after its sidecar was written", "Create it again")
    if not isinstance(artifact, kind):
        writer = _WRITERS.get(kind.__name__, "export")
        raise ImfDeployError(
            f"{path} is {artifact.title()}, not {kind.title()}", f"Use a file of imf-deploy {writer}"
        )
    return artifact


def current_artifact(path: Path, recipe: str, kind: type[Kind] = Artifact) -> Kind | None:  # type: ignore[assignment]
    """Return the artifact at ``path`` if it is complete and was made by ``recipe``, else ``None``."""
    try:
        artifact = load_artifact(path, kind)
    except ImfDeployError:
        return None  # missing, damaged or changed: the stage makes it again
    return artifact if artifact.recipe == recipe else None


def claim(
    kind: type[Kind], path: Path, recipe: str, overwrite: bool, checkpoint: Path | None = None
) -> Kind | None:
    """Return what the same recipe already made at ``path``, or ``None`` if it may be written now.

    Args:
        kind: Type of record that the stage makes.
        path: Output file of a stage.
        recipe: Hash of everything that determines its content.
        overwrite: Whether another recipe's file may be replaced.
        checkpoint: Checkpoint of the stage's training. If it exists, a file without a sidecar belongs to the
            interrupted stage; a checkpoint that a finished training was killed too early to remove is
            removed.

    Raises:
        UsageError: the path belongs to another file.
        ImfDeployError: the path cannot be written.
    """
    sidecar = sidecar_path(path)
    unfinished = checkpoint is not None and checkpoint.is_file()
    if made := current_artifact(path, recipe, kind):
        # A younger one belongs to another training, which was to overwrite the file and was interrupted.
        if checkpoint and unfinished and checkpoint.stat().st_mtime_ns <= sidecar.stat().st_mtime_ns:
            checkpoint.unlink()
        return made
    # A file that was damaged after the same recipe made it may be replaced by this stage.
    own = read_json(sidecar).get("recipe") == recipe if sidecar.is_file() else unfinished
    if path.exists() and not overwrite and not own:
        raise UsageError(
            f"{path} already exists, made with other settings", "Use another `output`, or `overwrite`"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # This is checked before hours of work, not after them.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise write_error(path, error) from error
    return None
