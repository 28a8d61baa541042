"""The result of a measurement as a table for a terminal."""

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from imf_deploy.benchmark.conditions import busy_machine
from imf_deploy.benchmark.int8 import int8_rows
from imf_deploy.benchmark.result import BenchResult, BenchRow

_UNSTEADY = 0.1


def render(result: BenchResult) -> Table:
    """Return the result as a table for a terminal of 80 columns; times are in milliseconds."""
    title = f"Latency in ms (threads: {result.settings['threads']}, CPU: {result.conditions['cpu']})"
    table = _table(title, ("batch", "p50", "p90", "p99", "images/s", "CV", "to baseline"))
    for row in result.rows:
        seen = row.latency
        steady = f"{seen.variation:.0%}" + (" !" if seen.variation > _UNSTEADY else "")
        numbers = [_significant(value) for value in (seen.p50, seen.p90, seen.p99, seen.throughput)]
        against = (
            "" if row.ratio is None else f"{row.ratio.value:.3f}\n{row.ratio.low:.3f}-{row.ratio.high:.3f}"
        )
        file = escape(row.name)
        if not row.name.endswith(f"({row.runner})"):
            file += f"\n[dim]{escape(row.runner)}[/dim]"
        table.add_row(file, str(seen.images), *numbers, steady, against)
    if any(row.latency.variation > _UNSTEADY for row in result.rows):
        table.caption = f"! varies by more than {_UNSTEADY:.0%}: the machine is busy, or its clock changes"
    return table


def render_clients(result: BenchResult) -> Table:
    """Return what several clients got through as a table; times are in milliseconds."""
    headings = ("batch", "clients", "sessions", "threads", "images/s", "to 1", "p50", "p99")
    table = _table("Concurrent requests", headings)
    for row in result.rows:
        for load in row.clients:
            sessions = 1 if load.sessions == "shared" else load.clients
            numbers = (load.images_per_second, load.speed, load.p50_ms, load.p99_ms)
            counts = (load.images, load.clients, sessions, load.threads)
            table.add_row(escape(row.name), *map(str, counts), *map(_significant, numbers))
    return table


def beside(result: BenchResult) -> list[str]:
    """Return lines that the table has no space for: start, memory, energy, GPU parts; a busy machine."""
    busy = busy_machine(result.conditions["other_cpus"], result.settings["threads"])
    return [line for line in (busy, *map(_beside, result.rows), *int8_rows(result.rows)) if line]


def _beside(row: BenchRow) -> str:
    facts = []
    start = row.start_up or {}
    if "reason" in start:
        facts.append(f"start not measured: {start['reason']}")
    elif start:
        facts.append(f"loads in {_significant(start['load_ms'])} ms")
        facts.append(f"first inference {_significant(start['first_inference_ms'])} ms")
        if start["memory"]:
            facts.append(f"memory {_significant(start['memory']['of_file_mib'])} MiB")
    if row.latency.energy_j is not None:
        facts.append(f"{_significant(1e3 * row.latency.energy_j / row.latency.count)} mJ per inference")
    if row.gpu_ms:
        parts = {part: row.gpu_ms[f"{part}_ms"]["p50"] for part in ("enqueue", "h2d", "compute", "d2h")}
        facts += [f"{part} {_significant(value)} ms" for part, value in parts.items()]
    session = row.session or {}
    if session.get("operators_on_cpu") and len(session["providers"]) > 1:
        facts.append("some of its operators run on the CPU")
    return f"{row.name}, batch {row.latency.images}: {', '.join(facts)}" if facts else ""


def _significant(value: float) -> str:
    """Return a positive number with four significant digits, and at most four decimals."""
    return f"{value:.{min(max(3 - math.floor(math.log10(value)), 0), 4)}f}" if value > 0 else "0"


def _table(title: str, headings: Sequence[str]) -> Table:
    """Return an empty table with a column of files and columns of numbers."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("file", overflow="fold", min_width=12)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
