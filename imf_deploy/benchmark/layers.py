"""The layers of an engine as a table: formats, tactics and times."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from imf_deploy.errors import UsageError
from imf_deploy.runners.base import Batch
from imf_deploy.runners.engine_layers import EngineLayer
from imf_deploy.runners.opening import Way
from imf_deploy.runners.tensorrt import TensorRTRunner

RUNS = 50
_LONGEST = 60


def check_layers(paths: Sequence[Path], ways: Sequence[Way]) -> None:
    """Refuse files whose layers cannot be listed, before anything is measured.

    Raises:
        UsageError: none of them is an engine.
    """
    if not any(way.runtime == "tensorrt" for way in ways):
        names = ", ".join(path.name for path in paths)
        raise UsageError(f"`layers` lists the layers of engines, but none of {names} is an engine")


def engine_layers(way: Way, batch: Batch) -> list[EngineLayer]:
    """Return the layers of an engine with the median time of each, without a CUDA graph.

    Args:
        way: The engine.
        batch: Input of every run, which determines the shapes.

    Raises:
        ImfDeployError: the engine cannot be loaded or does not accept the batch.
    """
    with TensorRTRunner(way.path, cuda_graph=False, device=way.device) as runner:
        return runner.layers(batch, RUNS)


def render_layers(name: str, images: int, layers: Sequence[EngineLayer]) -> Table:
    """Return the layers of one engine as a table for a terminal."""
    total = sum(layer.milliseconds or 0.0 for layer in layers)
    title = f"Layers of {escape(name)}, batch {images}: {total:.3f} ms with a profiler between them"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("types", no_wrap=True)
    for heading in ("kind", "layer", "tactic"):
        table.add_column(heading, overflow="fold")
    for layer in layers:
        took = "" if layer.milliseconds is None else f"{layer.milliseconds:.4f}"
        words = (layer.kind, _shortened(layer.name), _shortened(layer.tactic))
        table.add_row(took, layer.types, *map(escape, words))
    if not any(layer.types for layer in layers):
        table.caption = "The engine was built without details; rebuild it to see formats and tactics"
    return table


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
