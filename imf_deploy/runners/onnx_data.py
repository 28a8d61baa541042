"""Look where the weights of an ONNX file lie before a runtime is asked to load it."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.export.onnx_file import read_model
from imf_deploy.files import existing_file

# A file is loaded many times while it is measured, and looked into once.
_checked: dict[Path, tuple[int, int]] = {}


def check_onnx_data(path: Path) -> None:
    """Refuse a file that would read data outside its own folder; once for each state of the file.

    Not every version of ONNX Runtime refuses ``../`` and links that lead out, and OpenVINO's rules
    are its own.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it names data outside its own folder, or is damaged.
    """
    existing_file(path, "the ONNX model")
    if _checked.get(path) != _state(path):
        read_model(path)
        take_as_checked(path)


def take_as_checked(path: Path) -> None:
    """Skip the check of a file in this process, because the one that started it has made it.

    Parsing the file would count as memory of the runtime where that is measured.
    """
    if path.is_file():
        _checked[path] = _state(path)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
