"""Find layers whose INT8 form is not faster in ONNX Runtime on this machine than their float form."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from imf_deploy.calib.repair import Attempt, Repaired
from imf_deploy.calib.worth import compare_speeds
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import track
from imf_deploy.settings import Gate

_TOGETHER = 8
"""Files that are measured side by side with the whole one."""
_LEAST = 0.01
"""Part of the file's latency that a layer, or all of them together, has to save in float."""

Build = Callable[[tuple[str, ...]], bytes]
"""Layers in float -> the file."""


def return_slow_layers(
    made: Repaired, attempt: Attempt, build: Build, layers: Sequence[str], preprocess: Preprocess, gate: Gate
) -> Repaired:
    """Return a file whose slow layers are in float, if that is faster and passes the gate.

    Args:
        made: The file that passed the gate.
        attempt: Makes and scores a file.
        build: Makes a file.
        layers: Names of all layers.
        preprocess: Input of the file.
        gate: Gate that has to hold.
    """
    before = made.excluded
    left = [name for name in layers if name not in before]
    found = slow_layers(lambda floats: build((*before, *floats)), left, preprocess)
    if not found:
        return made
    content, result = attempt((*before, *found))
    tries = [*made.tries, {"float_layers": len(before) + len(found), **result.attempt()}]
    if result.missed(gate):
        return replace(made, tries=tries)
    return Repaired(content, (*before, *found), result, tries)


def slow_layers(build: Build, layers: Sequence[str], preprocess: Preprocess) -> tuple[str, ...]:
    """Return layers in float with which the whole file is faster; empty if there are none.

    Each layer alone is measured first, then those that save something together, because a pair of Q and DQ
    may have to be added between them. Source: ours.

    Args:
        build: Makes a file.
        layers: Layers that are quantised.
        preprocess: Input of the file.
    """
    saving: list[str] = []
    with track("Timing layers in float", len(layers)) as advance:
        for start in range(0, len(layers), _TOGETHER):
            some = layers[start : start + _TOGETHER]
            saving += _saving(build, {name: (name,) for name in some}, preprocess)
            advance(len(some))
    found = tuple(saving)
    return found if found and _saving(build, {"all": found}, preprocess) else ()


def _saving(build: Build, tried: dict[str, tuple[str, ...]], preprocess: Preprocess) -> list[str]:
    """Return the names of those sets of float layers that make a file faster."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        whole.write_bytes(build(()))
        files = {name: Path(folder) / f"{index}.onnx" for index, name in enumerate(tried)}
        for name, path in files.items():
            path.write_bytes(build(tried[name]))
        ratios = compare_speeds(whole, list(files.values()), preprocess)
    return [
        name for name, seen in zip(files, ratios, strict=True) if seen.value <= 1 - _LEAST and seen.high < 1
    ]
