"""Choose which files are written for each product, from ``--precisions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imf_deploy.errors import UsageError
from imf_deploy.export.onnx_file import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
DEPLOY = "deploy"
"""The ``--precisions`` value that writes only what is usually deployed."""


@dataclass(frozen=True)
class FileChoice:
    """The files that are written for each product.

    Attributes:
        onnx: Precisions of the ONNX files that are deployed themselves; ``int8`` is the file for CPUs.
        engines: Precisions of the engines, if TensorRT is installed. The ONNX file that an engine is built
            from is also written; for ``int8`` it differs from the file for CPUs.
    """

    onnx: tuple[Precision, ...]
    engines: tuple[Precision, ...]

    def written(self, engines: bool) -> list[Precision]:
        """Return the precisions of all ONNX files.

        Args:
            engines: Whether engines are built.
        """
        return [name for name in PRECISIONS if name in self.onnx or (engines and name in self.engines)]

    @property
    def int8(self) -> bool:
        """Whether images are needed, because INT8 is calibrated and judged on them."""
        return "int8" in (*self.onnx, *self.engines)


DEPLOYED = FileChoice(onnx=("fp32", "int8"), engines=("fp16",))
"""One ONNX file for every runtime, one that is fast on CPUs, and an engine for GPUs."""


def every_form(names: Sequence[Precision]) -> FileChoice:
    """Return the choice of an ONNX file and an engine in each precision."""
    return FileChoice(tuple(names), tuple(names))


def choose_precisions(option: str) -> FileChoice:
    """Read ``--precisions``: ``deploy``, or names separated by commas.

    ``int8`` includes ``fp32``, because it is made from it.

    Raises:
        UsageError: a precision is unknown.
    """
    names = [name.strip() for name in option.split(",") if name.strip()]
    if names == [DEPLOY]:
        return DEPLOYED
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown or not names:
        raise UsageError(
            f"--precisions has no '{', '.join(unknown)}'",
            f"Use {DEPLOY} alone, or choose from: {', '.join(PRECISIONS)}",
        )
    return every_form([name for name in PRECISIONS if name in names or (name == "fp32" and "int8" in names)])
