"""Whether a file answers otherwise on processors that are not at hand, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.portability.emulate import Emulator
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.portability.products import PORTABLE, SATURATING
from imf_deploy.tasks.classification import same_class
from imf_deploy.untrusted import shorten

Status = Literal["portable", "same", "differs", "unknown"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Portability:
    """How a file answers on x86 processors without VNNI, beside all others.

    Attributes:
        status: ``portable`` where no input can make a sum saturate; ``same`` or ``differs`` by the answers on
            some images; ``unknown`` where an operator cannot be emulated.
        layers: How many layers some input can make saturate.
        images: How many images were compared; 0 where none had to be.
        agreement: Part of them that keep their class on these processors.
        max_abs_diff: Largest absolute difference of a logit.
        operators: Operators that cannot be emulated.
    """

    status: Status
    layers: int = 0
    images: int = 0
    agreement: float | None = None
    max_abs_diff: float | None = None
    operators: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What reports say of the file; without a full stop."""
        if self.status == "portable":
            return f"INT8 {PORTABLE}"
        if self.status == "unknown":
            return (
                f"INT8 on {SATURATING}: not known, since {', '.join(self.operators)} cannot be emulated; "
                "measure the file on such a processor"
            )
        if self.status == "same":
            return f"INT8 on {SATURATING}: same answers on {self.images} images"
        return (
            f"INT8 on {SATURATING}: other answers, {self.agreement:.2%} of {self.images} images keep "
            f"their class, and logits differ by up to {self.max_abs_diff:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the form that records and reports hold."""
        return asdict(self) | {"operators": list(self.operators), "sentence": self.sentence}


@dataclass(frozen=True)
class Assessment:
    """A :class:`Portability`, and the answers that it rests on.

    Attributes:
        portability: The result.
        logits: Of a processor without VNNI, ``[N, classes]``; ``None`` where nothing had to be emulated.
    """

    portability: Portability
    logits: Array | None = None


def assess(path: Path, batches: Iterable[Array], output: str) -> Assessment:
    """Compare a file's answers on processors with saturating sums with its answers on all others.

    Both are emulated in integers, so that the result does not depend on the processor at hand. Where no
    weights can make a sum saturate, nothing is run.

    Args:
        path: An ONNX file that ONNX Runtime's CPU provider runs.
        batches: Network input, ``[N, ...]`` each; not iterated over for a portable file.
        output: Name of the output that holds the logits.

    Returns:
        The assessment; logits are flattened to ``[N, classes]``.

    Raises:
        ImfDeployError: the file has no such output, or a part of it cannot be run alone.
    """
    try:
        return _assess(path, batches, output)
    except ImfDeployError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ImfDeployError(
            f"what {path} computes on {SATURATING} cannot be emulated ({shorten(str(error))})",
            "Measure the file on such a processor",
        ) from error


def _assess(path: Path, batches: Iterable[Array], output: str) -> Assessment:
    session = open_session_graph(path)
    if session.unknown:
        return Assessment(Portability("unknown", len(session.saturating), operators=session.unknown))
    if not session.saturating:
        return Assessment(Portability("portable"))
    names = [value.name for value in session.model.graph.output]
    if output not in names:
        raise ImfDeployError(
            f"{path} has no output '{output}', only {', '.join(names)}", "Make the file again"
        )
    place = names.index(output)
    saturating, exact = Emulator(session, saturate=True), Emulator(session, saturate=False)
    pairs = [(saturating.run(batch)[place], exact.run(batch)[place]) for batch in batches]
    there, here = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    there, here = there.reshape(len(there), -1), here.reshape(len(here), -1)
    same = np.array_equal(there, here)
    portability = Portability(
        "same" if same else "differs",
        len(session.saturating),
        len(there),
        float(same_class(there, here).mean()),
        float(np.abs(there.astype(np.float64) - here).max()),
    )
    return Assessment(portability, there)
