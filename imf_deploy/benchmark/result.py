"""The result of a measurement of files."""

from dataclasses import asdict, dataclass
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
        name: The file's name, as short as possible, and its way if it has several.
        path: The file.
        sha256: SHA-256 of the file, by which its latency is matched with its accuracy.
        runner: The runtime, and how it ran the file.
        way: The same as plain values: runtime, provider, device, mode, threads.
        latency: The measured latency.
        ratio: Latency relative to the baseline's in the same rounds; ``None`` for the baseline itself.
        start_up: Load time, first inference and memory in a separate process, or a ``reason``; ``None`` if
            not requested.
        gpu_ms: Parts of a run on a GPU; ``None`` if it does not run on one, or has no parts.
        session: Decisions of ONNX Runtime: its ``providers``, and ``operators_on_cpu``: whether any operator
            runs there; ``None`` for other runtimes.
        layers: Layers of an engine, if requested; they belong to its first row at each batch size.
        clients: Results of several concurrent clients, if requested.
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
    """Everything needed to interpret the numbers.

    Attributes:
        rows: Rows by batch size, then in the order of the files.
        settings: Durations, iterations, loads and the baseline.
        conditions: Machine and versions, recorded before the first measurement; the state of the GPU before
            and after; the reason if there is no energy; ``other_cpus``: number of CPUs that other work used,
            at the batch size where it used the most.
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
                "clients": [asdict(load) for load in row.clients],
            }
            for row in self.rows
        ]
        return {
            "schema": SCHEMA, "rows": rows, "settings": self.settings, "conditions": self.conditions
        }  # fmt: skip
