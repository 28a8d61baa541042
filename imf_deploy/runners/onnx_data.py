"""Check where the weights of an ONNX file are stored before a runtime loads it."""

from pathlib import Path

from imf_deploy.export.onnx_file import read_model
from imf_deploy.files import existing_file

# During a measurement, a file is loaded many times but checked once.
_checked: dict[Path, tuple[int, int]] = {}


def check_onnx_data(path: Path) -> None:
    """Refuse a file that would read data outside its own folder; checked once for each state of the file.

    Not every version of ONNX Runtime refuses ``../`` and links that lead outside the folder, and OpenVINO has
    its own rules.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file names data outside its own folder, or is damaged.
    """
    existing_file(path, "the ONNX model")
    if _checked.get(path) != _state(path):
        read_model(path)
        take_as_checked(path)


def take_as_checked(path: Path) -> None:
    """Skip the check of a file in this process, because the parent process has done it.

    In a memory measurement, parsing the file would count as memory of the runtime.
    """
    if path.is_file():
        _checked[path] = _state(path)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
