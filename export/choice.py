"""Choose which files are written for each product, and what their engines run on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imf_deploy.settings import BatchRange
from imf_deploy.settings.export import DEPLOY, EVERY_PRECISION, RTX_CAPABILITIES, Precision


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


PORTABLE_CAPABILITIES = RTX_CAPABILITIES[1:]
"""Compute capabilities that an engine without targets is built for, besides newer ones."""


def rtx_runs_on(capability: str, targets: Sequence[str] = RTX_CAPABILITIES) -> bool:
    """Return whether TensorRT-RTX runs on GPUs of a compute capability such as ``89``.

    It runs on the targets and on GPUs that are newer than all of them, according to its runtime. It does not
    run on Hopper (90) or data-centre Blackwell (100, 103), which are older than the newest target.

    Args:
        capability: Compute capability of the GPU.
        targets: Capabilities that it builds for, or that an engine without targets was built for.
    """
    return capability in targets or int(capability) > max(map(int, targets))


def profiles_text(profiles: Sequence[BatchRange]) -> str:
    """Return the form that :func:`parse_profiles` reads."""
    return ",".join(map(str, profiles))


def choose_profile(profiles: Sequence[BatchRange], size: int) -> int | None:
    """Return the index of the profile for a batch: of those that accept it, the one tuned closest to it.

    Args:
        profiles: Profiles of an engine, in its order.
        size: Images in the batch.
    """
    fitting = [index for index, batch in enumerate(profiles) if batch.min <= size <= batch.max]
    # Compared as a ratio: a kernel for 32 images is nearer to 64 than one for 1.
    return min(
        fitting,
        key=lambda index: max(size, profiles[index].opt) / min(size, profiles[index].opt),
        default=None,
    )
