"""The output folder of a run: claimed once, never another run's, and resumed after an interruption."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.files import differences, read_json, write_error, write_json, write_yaml

RECORD = "run.json"
SETTINGS = "config.yaml"
"""The options of the command, as ``config`` reads them."""
# Everything that a run writes; `overwrite` removes only these.
_OWN = (
    "teacher.safetensors", "teacher.safetensors.json", "teacher.checkpoint",
    "distilled.safetensors", "distilled.safetensors.json", "distilled.checkpoint",
    "distilled.teacher-outputs", "distilled-qat.teacher-outputs",
    "distilled-qat.safetensors", "distilled-qat.safetensors.json", "distilled-qat.checkpoint",
    "distilled-qat.config.yaml",
    "products", "deploy", "tensorboard", "report.json", "report.html", "report.md", RECORD, SETTINGS,
)  # fmt: skip

_WHICH_FILES = ("products", "precisions")
"""Settings that determine which files a run makes, but not their content."""


@dataclass(frozen=True)
class RunFolder:
    """The paths that each stage of a run writes."""

    path: Path

    @property
    def teacher(self) -> Path:
        """Weights of a teacher that the run trains itself."""
        return self.path / "teacher.safetensors"

    @property
    def distilled(self) -> Path:
        """Student and branches."""
        return self.path / "distilled.safetensors"

    @property
    def qat(self) -> Path:
        """The same after quantisation-aware fine-tuning."""
        return self.path / "distilled-qat.safetensors"

    @property
    def products(self) -> Path:
        """Folder of stripped weights."""
        return self.path / "products"

    @property
    def deploy(self) -> Path:
        """Folder of ONNX files and engines."""
        return self.path / "deploy"


def open_run(
    path: Path, config: dict[str, Any], overwrite: bool, settings: Mapping[str, Any] | None = None
) -> RunFolder:
    """Claim an output folder for a configuration.

    An empty or missing folder is claimed. A folder of the same configuration is resumed; :data:`_WHICH_FILES`
    may differ, and files of an earlier choice are kept. Another run's folder is refused, unless ``overwrite``
    is given: then only that run's files and its folders ``products`` and ``deploy`` are removed first.

    Args:
        path: The folder.
        config: Everything that determines the run's results, as JSON values.
        overwrite: Whether another run may be replaced.
        settings: The command's options, to be stored in ``config.yaml``.

    Raises:
        UsageError: the folder belongs to another run, or holds other files.
        ImfDeployError: the folder cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"`output` {path} is a file", "Use a folder")
    folder = RunFolder(path)
    record = path / RECORD
    if record.is_file():
        known = {} if overwrite else read_json(record).get("config")
        if not overwrite and _results(known) == _results(config):
            if known != config:
                write_json(record, {"schema": 1, "config": config})
            for leftover in path.rglob(".tmp-*"):  # left by a run that was killed while writing
                leftover.unlink(missing_ok=True)
            _keep(path, settings)
            return folder
        # A run that failed before its first file (because of a teacher's name or weights) does not claim the
        # folder.
        started = any((path / name).exists() for name in _OWN if name not in (RECORD, SETTINGS))
        if started and not overwrite:
            differing = differences(known if isinstance(known, dict) else {}, config)
            raise UsageError(
                f"`output` {path} holds another run (other {', '.join(differing)})",
                "Use another `output`, or `overwrite` to replace that run",
            )
        _remove(path)
    elif path.is_dir() and any(p for p in path.iterdir() if not p.name.startswith(".tmp-")):
        raise UsageError(f"`output` {path} is not empty and holds no run", "Use an empty or a new folder")
    write_json(record, {"schema": 1, "config": config})
    _keep(path, settings)
    return folder


def _results(config: Any) -> Any:
    """Return the settings that determine the content of files."""
    if not isinstance(config, dict):
        return config
    return {name: value for name, value in config.items() if name not in _WHICH_FILES}


def _keep(path: Path, settings: Mapping[str, Any] | None) -> None:
    if settings is not None:
        write_yaml(path / SETTINGS, settings)


def _remove(path: Path) -> None:
    try:
        for name in _OWN:
            target = path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
