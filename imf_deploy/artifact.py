"""One record for every file the tool makes, kept beside it as ``<file>.json``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from imf_deploy.compat import versions
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.evidence import Evidence, Shapes
from imf_deploy.files import read_json, sha256_file, write_error, write_json
from imf_deploy.forms import departure
from imf_deploy.preprocess import Preprocess

SCHEMA = 2
Known = TypeVar("Known")
_FORMS = {
    **dict.fromkeys(("kind", "format", "sha256", "parent", "recipe", "product", "precision"), str),
    "model": dict[str, Any],
    "inputs": Shapes,
    "outputs": Shapes,
    "evidence": Evidence,
    "tools": dict[str, Any],
}


@dataclass(frozen=True)
class Artifact:
    """What a file is, where it comes from, and what was measured of it.

    The native file loads unchanged in its own tools; this record is only ever beside it.

    Attributes:
        path: The file. Sidecars hold its name alone, so that a folder can be moved.
        kind: ``teacher``, ``distilled``, ``product``, ``onnx`` or ``engine``.
        format: ``safetensors``, ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        sha256: Hash of the file.
        parent: Hash of the file that it was made from; empty where there is none.
        recipe: Hash of everything that decided its content, for going on with a run.
        model: The architecture, as ``ModelSpec.to_dict``.
        preprocess: How pictures become input.
        product: ``plain``, ``imf@k``; empty before stripping.
        precision: ``fp32``, ``fp16`` …
        inputs: Name to shape of each input; a string is a dynamic dimension.
        outputs: Name to shape of each output.
        evidence: What was measured or proved, by name.
        tools: Versions at the time of writing.
    """

    path: Path
    kind: str
    format: str
    sha256: str
    parent: str
    recipe: str
    model: dict[str, Any]
    preprocess: Preprocess
    product: str = ""
    precision: str = "fp32"
    inputs: dict[str, list[int | str]] = field(default_factory=dict)
    outputs: dict[str, list[int | str]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=versions)

    def save(self) -> Artifact:
        """Write the sidecar, atomically, after the file itself; return the same artifact."""
        content = asdict(self) | {
            "schema": SCHEMA,
            "path": self.path.name,
            "preprocess": self.preprocess.to_dict(),
        }
        write_json(sidecar_path(self.path), content)
        return self

    def known(self, name: str, kind: type[Known]) -> Known:
        """Return a part of the evidence, where the stage that wrote the record always has it.

        Args:
            name: Of the part.
            kind: Its type.

        Raises:
            ImfDeployError: it is missing, or of another type.
        """
        value = self.evidence.get(name)
        if not isinstance(value, kind):
            raise ImfDeployError(f"the record of {self.path} is damaged ('{name}')", "Make the file again")
        return value

    def with_evidence(self, **evidence: Any) -> Artifact:
        """Return a copy with more evidence; not yet saved."""
        return replace(self, evidence={**self.evidence, **evidence})


def sidecar_path(path: Path) -> Path:
    """Return where the record of a file lies: ``<file>.json``."""
    return path.with_name(path.name + ".json")


def describe(path: Path, **fields: Any) -> Artifact:
    """Return the artifact of a file that was just written: its hash is taken, nothing is saved."""
    return Artifact(path=path, sha256=sha256_file(path), **fields)


def load_artifact(path: Path) -> Artifact:
    """Read the record of a file and check it against the file.

    Raises:
        ImfDeployError: no record, a damaged one, or one that belongs to other content.
    """
    sidecar = sidecar_path(path)
    if not path.is_file():
        raise ImfDeployError(f"there is no file {path}", "Run the stage that makes it")
    if not sidecar.is_file():
        raise ImfDeployError(f"{path} has no sidecar {sidecar.name}", "Keep the two files together")
    content = read_json(sidecar)
    if content.pop("schema", None) != SCHEMA:
        raise ImfDeployError(f"{sidecar} has another form than this version writes", "Make the file again")
    try:
        preprocess = Preprocess.from_dict(content.pop("preprocess"))
        content.pop("path")
        artifact = Artifact(path=path, preprocess=preprocess, **content)
    except (KeyError, TypeError) as error:
        raise ImfDeployError(f"{sidecar} is damaged ({error})", "Make the file again") from error
    for name, form in _FORMS.items():
        if problem := departure(getattr(artifact, name), form, name):
            raise ImfDeployError(f"{sidecar} is damaged ({problem})", "Make the file again")
    if artifact.sha256 != sha256_file(path):
        raise ImfDeployError(f"{path} was changed after its sidecar was written", "Make it again")
    return artifact


def current_artifact(path: Path, recipe: str) -> Artifact | None:
    """Return the artifact at ``path`` if it is whole and was made by ``recipe``; else nothing."""
    if not (path.is_file() and sidecar_path(path).is_file()):
        return None
    try:
        artifact = load_artifact(path)
    except ImfDeployError:
        return None  # damaged or changed: the stage makes it again
    return artifact if artifact.recipe == recipe else None


def claim(path: Path, recipe: str, overwrite: bool, checkpoint: Path | None = None) -> Artifact | None:
    """Return what the same recipe already made at ``path``, or nothing if it may be written now.

    Args:
        path: Where a stage wants to write.
        recipe: Hash of everything that decides its content.
        overwrite: Whether another recipe's file may be replaced.
        checkpoint: Of the stage's training. Where it is there, a file without a sidecar is the stage's
            own, cut off before the end; one that a finished training was killed too early to remove is
            removed.

    Raises:
        UsageError: another file is there.
        ImfDeployError: nothing can be written there.
    """
    sidecar = sidecar_path(path)
    unfinished = checkpoint is not None and checkpoint.is_file()
    if made := current_artifact(path, recipe):
        # A younger one is of another training, which was to overwrite the file and was cut off.
        if checkpoint and unfinished and checkpoint.stat().st_mtime_ns <= sidecar.stat().st_mtime_ns:
            checkpoint.unlink()
        return made
    # A file that was damaged since the same recipe made it is this stage's own to mend.
    own = read_json(sidecar).get("recipe") == recipe if sidecar.is_file() else unfinished
    if path.exists() and not overwrite and not own:
        raise UsageError(
            f"{path} is there already, made in another way", "Give another --output, or --overwrite"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before hours of work, not after them.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise write_error(path, error) from error
    return None
