"""Everything that a measurement of files says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.benchmark.clients import ClientLoad
from imf_deploy.benchmark.latency import Latency, Ratio
from imf_deploy.runners.engine_layers import EngineLayer

SCHEMA = 2


@dataclass(frozen=True)
class BenchRow:
    """One file, run in one way, at one batch size.

    Attributes:
        name: The file's name, as short as the others allow, and its way where it has several.
        path: The file.
        sha256: Of the file, so that its latency meets its own accuracy.
        runner: What ran it, and how.
        way: The same as plain values: runtime, provider, device, mode, threads.
        latency: What was measured.
        ratio: Latency against the baseline's in the same rounds; ``None`` for the baseline itself.
        start_up: Load time, first inference and memory in a process of its own, or a ``reason``;
            ``None`` where it was not asked for.
        gpu_ms: Parts of a run on a GPU; ``None`` where it does not run on one, or has no parts.
        session: What ONNX Runtime made of the wish: its ``providers``, and ``operators_on_cpu``: whether
            any operator runs there; ``None`` for other runtimes.
        layers: Of an engine, where they were asked for; they belong to its first row at each batch size.
        clients: What several clients got through at the same time, where that was asked for.
    """

    name: str
    path: Path
    sha256: str
    runner: str
    way: dict[str, Any]
    latency: Latency
    ratio: Ratio | None
    start_up: dict[str, Any] | None
    gpu_ms: dict[str, Any] | None
    session: dict[str, Any] | None = None
    layers: tuple[EngineLayer, ...] = ()
    clients: tuple[ClientLoad, ...] = ()


@dataclass(frozen=True)
class BenchResult:
    """Everything a reader of the numbers needs.

    Attributes:
        rows: By batch size, then in the order of the files.
        settings: Durations, iterations, loads and the baseline.
        conditions: Machine and versions, taken before the first measurement; the state of the GPU
            before and after; why there is no energy, where there is none; ``other_cpus``: how many CPUs
            other work took meanwhile, at the batch size where it took the most.
    """

    rows: tuple[BenchRow, ...]
    settings: dict[str, Any]
    conditions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        rows = [
            {
                "name": row.name,
                "path": str(row.path),
                "sha256": row.sha256,
                "runner": row.runner,
                "way": row.way,
                **row.latency.to_dict(),
                "ratio": row.ratio and [row.ratio.value, row.ratio.low, row.ratio.high],
                "start_up": row.start_up,
                "gpu_ms": row.gpu_ms,
                "session": row.session,
                "layers": [layer.to_dict() for layer in row.layers],
                "clients": [load.to_dict() for load in row.clients],
            }
            for row in self.rows
        ]
        return {
            "schema": SCHEMA, "rows": rows, "settings": self.settings, "conditions": self.conditions
        }  # fmt: skip
