"""The ONNX files of a package, each with a record of its own and verified as it lies there."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from imf_deploy.errors import GateError
from imf_deploy.export.interface_file import write_interface
from imf_deploy.files import write_error, write_text
from imf_deploy.packages.source import Source
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings.data import EMBEDDED
from imf_deploy.settings.export import InterfaceSettings
from imf_deploy.verification.stage import verify_interface


def place_file(
    source: Source, origin: OnnxFile, path: Path, interface: InterfaceSettings | None = None
) -> OnnxFile:
    """Write a file of the run into a package, with its record.

    Args:
        source: What is packaged.
        origin: The file of the run.
        path: The file in the package.
        interface: The input and output that the package needs; by default the file is copied.

    Returns:
        The record. The file has passed every rung that the file of the run has passed, and one of its own if
        it was changed.

    Raises:
        GateError: the changed file does not answer as the file of the run does.
    """
    if interface is None or not interface.suffix:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin.path, path)
        except OSError as error:
            raise write_error(path, error) from error
        # A package may be published: where the data lies stays here.
        return origin.revised(path=path, data_config=None).save()
    made = verify_interface(write_interface(origin, interface, path), origin, source.data)
    own = made.verify.ladder[-1] if made.verify else None
    if own is None or own.status != "pass":
        raise GateError(
            f"{path.name} does not answer as {origin.path}: {own.reason if own else 'it was not verified'}",
            "Please report this",
        )
    return made.revised(data_config=None).save()


def read_template(name: str) -> str:
    """Return the text of a file that packages contain as it is, such as ``clients/classify.py``."""
    # A Python file here would be taken for a module of this package.
    place = files("imf_deploy.packages") / "templates" / (f"{name}.txt" if name.endswith(".py") else name)
    return place.read_text(encoding="utf-8")


def write_notice(folder: Path, source: Source) -> None:
    """Write the licence of the embedded images, of which the test vectors are some."""
    if source.data.name == EMBEDDED:
        notice = files("imf_deploy.assets") / "FASHION-MNIST-NOTICE.txt"
        write_text(folder / "NOTICE.txt", notice.read_text(encoding="utf-8"))


def write_labels(folder: Path, source: Source, name: str = "labels.txt") -> None:
    """Write the labels, one a line, in the order of the output."""
    lines = [" ".join(label.split()) for label in source.preprocess.labels]
    write_text(folder / name, "".join(f"{line}\n" for line in lines))
