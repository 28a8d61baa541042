"""Print the time of the main job by stage, on this machine.

    python benchmarks/first_run.py                                  # the README's first command
    python benchmarks/first_run.py --epochs 1 --products plain      # with options of distill-and-export

The command itself runs, in this process and into a folder that is removed afterwards; the stages are those in
``report.json``. ``wall`` is elapsed time, ``processor`` the time of all CPUs together, including child
processes, and ``CPUs`` the average number in use. Times of a machine that does other work are not comparable:
the load before the start is printed.
"""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
import tempfile
from pathlib import Path

from imf_deploy import __version__
from imf_deploy.cli import main, set_thread_waits
from imf_deploy.stages import Clock, Spent, clock, stage

set_thread_waits()


def run(options: list[str]) -> tuple[Clock, int]:
    """Run the main job; return its times and its exit code."""
    with tempfile.TemporaryDirectory() as folder, clock() as times, stage("other"):
        # Imported only for timing.
        with stage("imports"):
            import accelerate  # noqa: F401
            import matplotlib.pyplot  # noqa: F401
            import onnxruntime  # noqa: F401

            import imf_deploy.pipeline.job  # noqa: F401
        sys.argv = ["imf-deploy", "distill-and-export", *options, "--output", str(Path(folder) / "run")]
        try:
            main()
        except SystemExit as end:
            return times, int(end.code or 0)


def table(times: dict[str, Spent]) -> str:
    """Return the times as Markdown, and their sums."""
    rows = ["| stage | wall s | share | processor s | CPUs |", "|---|---:|---:|---:|---:|"]
    wall = sum(spent.wall for spent in times.values())
    whole = Spent(wall, sum(spent.processor for spent in times.values()))
    for name, spent in [*times.items(), ("**whole**", whole)]:
        busy = spent.processor / spent.wall if spent.wall else 0.0
        rows.append(
            f"| {name} | {spent.wall:.1f} | {spent.wall / wall:.0%} | {spent.processor:.1f} | {busy:.2f} |"
        )
    return "\n".join(rows)


def conditions(load: float) -> str:
    """Return the machine, the versions and the date in one line."""
    from imf_deploy.compat import cpu_model, usable_cpus, versions

    tools = ", ".join(f"{name} {version}" for name, version in versions().items())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{today}; {cpu_model()}, {usable_cpus()} CPUs, load before the start {load:.1f}; "
        f"Python {platform.python_version()}, imf-deploy {__version__}, {tools}"
    )


if __name__ == "__main__":
    asked, before = sys.argv[1:], os.getloadavg()[0]
    found, code = run(asked)
    print(f"\n{shlex.join(['imf-deploy', 'distill-and-export', *asked])}")
    print(f"{conditions(before)}\n\n{table(found.times)}")
    sys.exit(code)
