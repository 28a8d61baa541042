"""Whether a file gives different answers on other processors, and how different they are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.portability.emulate import Emulator
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.records.checks import SATURATING, Portability
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.untrusted import shorten

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Assessment:
    """A :class:`Portability`, and the answers that it is based on.

    Attributes:
        portability: The result.
        logits: Logits of a processor without VNNI, ``[N, classes]``; ``None`` if no emulation was needed.
    """

    portability: Portability
    logits: Array | None = None


def assess(path: Path, batches: Iterable[Array], output: str, task: Task = CLASSIFICATION) -> Assessment:
    """Compare a file's answers on processors with saturating sums with its answers on all others.

    Both are emulated in integers, so that the result does not depend on this machine's processor. If no
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
        return _assess(path, batches, output, task)
    except ImfDeployError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ImfDeployError(
            f"what {path} computes on {SATURATING} cannot be emulated ({shorten(str(error))})",
            "Measure the file on such a processor",
        ) from error


def _assess(path: Path, batches: Iterable[Array], output: str, task: Task) -> Assessment:
    session = open_session_graph(path)
    if session.unknown:
        return Assessment(Portability("unknown", len(session.saturating), operators=session.unknown))
    if not session.saturating:
        return Assessment(Portability("portable"))
    names = [value.name for value in session.model.graph.output]
    if output not in names:
        raise ImfDeployError(
            f"{path} has no output '{output}', only {', '.join(names)}", "Create the file again"
        )
    place = names.index(output)
    saturating, exact = Emulator(session, saturate=True), Emulator(session, saturate=False)
    pairs = [(saturating.run(batch)[place], exact.run(batch)[place]) for batch in batches]
    there, here = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    there, here = there.reshape(len(there), -1), here.reshape(len(here), -1)
    portability = Portability(
        "same" if np.array_equal(there, here) else "differs",
        len(session.saturating),
        len(there),
        float(task.same(there, here).mean()),
        float(np.abs(there.astype(np.float64) - here).max()),
    )
    return Assessment(portability, there)
