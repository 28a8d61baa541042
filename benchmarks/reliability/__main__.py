"""Damage every type of file that imf-deploy reads, kill its main job, and count how the commands end.

    python benchmarks/reliability mutations --seconds 3600 --jobs 2 --output runs/mutations
    python benchmarks/reliability kills --kills 40 --output runs/kills

A case is determined by ``--seed``, the type of file and its number: ``--only TYPE --case NUMBER`` repeats it.
The exit code is 1 if a command did not end as documented.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# On one thread: a forked process cannot use its parent's threads, and tiny networks do not gain from more.
os.environ["OMP_NUM_THREADS"] = "1"
# As on the command line: threads that wait in a latency measurement do not spin.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import Ended, cases, import_everything, run_case
from kills import kills
from sound import prepare
from subjects import subjects


def mutations(arguments: argparse.Namespace) -> int:
    """Run damaged files through the commands until the time is used; return the exit code."""
    output: Path = arguments.output
    sound = arguments.sound or output / "sound"
    import_everything()
    if not sound.is_dir():
        sound.mkdir(parents=True)
        prepare(sound)
    workers = []
    for job in range(arguments.jobs):
        if not (child := os.fork()):
            code = 1
            try:
                _work(arguments, sound, output / f"worker-{job}", job)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        workers.append(child)
    failed = [child for child in workers if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
    return summarise(output, arguments.jobs) or bool(failed)


def _work(arguments: argparse.Namespace, sound: Path, place: Path, job: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + arguments.seconds
    used = 0.0
    with (place / "ended.jsonl").open("w") as log, tempfile.TemporaryDirectory() as folder:
        for index, (subject, number, random) in enumerate(cases(arguments.seed, set(arguments.only))):
            if time.monotonic() > end or used > arguments.cpu_seconds or number >= arguments.cases:
                break
            if index % arguments.jobs != job or arguments.case not in (None, number):
                continue
            ended = run_case(subject, number, random, sound, Path(folder) / "case")
            used += ended.cpu_seconds
            log.write(json.dumps(vars(ended) | {"fault": ended.fault}) + "\n")
            log.flush()
            if ended.fault or arguments.case is not None:
                kept = place / f"{subject.name.replace(' ', '-')}-{number}"
                if not kept.exists():
                    (Path(folder) / "case").rename(kept)
                print(f"{subject.name} {number}: imf-deploy {ended.command}: {ended.fault}", flush=True)


def summarise(output: Path, jobs: int) -> int:
    """Print a table of the types of files; return 1 if a command did not end as documented."""
    lines = [line for job in range(jobs) for line in (output / f"worker-{job}" / "ended.jsonl").open()]
    ended = []
    for line in lines:
        fields = json.loads(line)
        fields.pop("fault")
        ended.append(Ended(**fields))
    print("| file | cases | 0 | 1 | 2 | 3 | 4 | faults | most processor time | most memory |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for subject in subjects():
        if own := [one for one in ended if one.subject == subject.name]:
            codes = Counter(one.code for one in own)
            print(
                f"| {subject.name} | {len(own)} | {' | '.join(str(codes[code]) for code in range(5))} "
                f"| {sum(bool(one.fault) for one in own)} | {max(one.cpu_seconds for one in own):.1f} s "
                f"| {max(one.resident_bytes for one in own) / 2**20:.0f} MiB |"
            )
    faults = Counter(one.fault for one in ended if one.fault)
    for fault, count in faults.most_common():
        print(f"{count} x {fault}")
    print(f"{len(ended)} cases, {sum(faults.values())} faults, {sum(one.cpu_seconds for one in ended):.0f} s")
    return int(bool(faults))


def main() -> int:
    """Read the command line and run a series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    series = parser.add_subparsers(required=True)
    one = series.add_parser("mutations", help="damage files")
    one.set_defaults(run=mutations)
    one.add_argument("--output", type=Path, required=True, help="folder for results")
    one.add_argument("--sound", type=Path, help="sound files; by default made in OUTPUT/sound")
    one.add_argument("--seconds", type=float, default=3600, help="wall time")
    one.add_argument("--cpu-seconds", type=float, default=float("inf"), help="processor time of each job")
    one.add_argument("--cases", type=int, default=10**9, help="cases of each type of file")
    one.add_argument("--jobs", type=int, default=1)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--only", action="append", default=[], help="a type of file, such as report")
    one.add_argument("--case", type=int, help="the only case to run")
    two = series.add_parser("kills", help="kill the main job")
    two.set_defaults(run=lambda arguments: kills(arguments.output, arguments.kills, arguments.seed))
    two.add_argument("--output", type=Path, required=True, help="folder for results")
    two.add_argument("--kills", type=int, default=40)
    two.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
