"""Choose which files are written for each product, from ``precisions``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imf_deploy.settings.export import DEPLOY, EVERY_PRECISION, Precision


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
        return [name for name in EVERY_PRECISION if name in self.onnx or (engines and name in self.engines)]

    @property
    def int8(self) -> bool:
        """Whether images are needed, because INT8 is calibrated and judged on them."""
        return "int8" in (*self.onnx, *self.engines)


DEPLOYED = FileChoice(onnx=("fp32", "int8"), engines=("fp16",))
"""One ONNX file for every runtime, one that is fast on CPUs, and an engine for GPUs."""


def every_form(names: Sequence[Precision]) -> FileChoice:
    """Return the choice of an ONNX file and an engine in each precision."""
    return FileChoice(tuple(names), tuple(names))


def choose_precisions(chosen: Literal["deploy"] | Sequence[Precision]) -> FileChoice:
    """Return which files are written; ``int8`` includes ``fp32``, from which it is made."""
    if chosen == DEPLOY:
        return DEPLOYED
    return every_form(
        [name for name in EVERY_PRECISION if name in chosen or (name == "fp32" and "int8" in chosen)]
    )
