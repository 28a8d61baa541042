"""Run commands on damaged files, each in a forked process with limits, and judge how they end."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import mutate
from subjects import Subject, Words, subjects

CODES = (0, 1, 2, 3, 4)
CPU_SECONDS = 20
RESIDENT_BYTES = 2 << 30
WALL_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """How one command ended."""

    subject: str
    number: int
    command: str
    code: int
    cpu_seconds: float
    resident_bytes: int
    out: str = field(repr=False)
    err: str = field(repr=False)

    @property
    def fault(self) -> str:
        """What is wrong with its end; empty if nothing is."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        checks = (
            (
                "Traceback (most recent call last)" in self.err,
                f"traceback: {self.err.strip().splitlines()[-1][:160] if self.err.strip() else ''}",
            ),
            (self.code < 0, f"ended by signal {-self.code}"),
            (self.code not in CODES, f"exit code {self.code}"),
            (len(errors) != (self.code != 0), f"{len(errors)} messages for exit code {self.code}"),
            (any(len(line) > 2200 for line in errors), "a message that is too long"),
            (bool(set("\x1b\x9b\u202e") & set(self.out + self.err)), "an escape in the output"),
            (self.cpu_seconds > CPU_SECONDS, f"{self.cpu_seconds:.0f} s of processor time"),
            (self.resident_bytes > RESIDENT_BYTES, f"{self.resident_bytes / 2**30:.1f} GiB of memory"),
        )
        return next((words for wrong, words in checks if wrong), "")


def import_everything() -> None:
    """Import what the commands need, once, before they are forked; this must not start a thread."""
    import importlib

    for name in (
        "torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "accelerate", "safetensors.torch",
        "PIL.Image", "matplotlib.figure", "imf_deploy.cli.app", "imf_deploy.pipeline.job",
        "imf_deploy.calib.stage", "imf_deploy.verification.stage", "imf_deploy.benchmark.stage",
        "imf_deploy.comparison.stage", "imf_deploy.inspection", "imf_deploy.export.stage",
        "imf_deploy.comparison.page", "imf_deploy.inspection.render",
    ):  # fmt: skip
        importlib.import_module(name)
    # Each export parses the source of PyTorch's 500 ONNX operators again, which takes a second.
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal._lazy_import import onnxscript_apis

        onnxscript_apis.get_torchlib_ops = functools.cache(onnxscript_apis.get_torchlib_ops)
        onnxscript_apis.get_torchlib_ops()


def cases(seed: int, names: set[str]) -> Iterator[tuple[Subject, int, Random]]:
    """Yield subjects in turn, each with the generator of its next case."""
    number = 0
    chosen = [subject for subject in subjects() if not names or subject.name in names]
    while True:
        for subject in chosen:
            yield subject, number, Random(f"{seed}/{subject.name}/{number}")
        number += 1


def run_case(subject: Subject, number: int, random: Random, sound: Path, place: Path) -> Ended:
    """Damage one file in a copy of sound files, and run one command on it.

    Args:
        subject: The type of file to damage.
        number: Number of the case; cases take the subject's commands in turn.
        random: Determines the damage.
        sound: The sound files.
        place: Folder of the copy; its content is removed.
    """
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(sound, place)
    command = subject.commands[number % len(subject.commands)]
    path = place / subject.path
    path.write_bytes(random.choice(subject.mutations)(path.read_bytes(), random))
    if subject.sealed and random.random() < 0.7:
        mutate.seal(path)
    code, seconds, resident = run(command, place)
    # Read before the next case removes it.
    texts = [(place / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr")]
    return Ended(subject.name, number, " ".join(command), code, seconds, resident, *texts)


def start(command: Words, place: Path) -> int:
    """Start a command in a forked process in a folder; return the number of the process."""
    child = os.fork()
    if not child:
        _become(command, place)
    return child


def run(command: Words, place: Path, seconds: float = WALL_SECONDS) -> tuple[int, float, int]:
    """Run a command in a forked process in a folder; return exit code, processor seconds, resident bytes."""
    child = start(command, place)
    end = time.monotonic() + seconds
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def _become(command: Words, place: Path) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(place)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # They stay open until the process ends.
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CPU, (2 * CPU_SECONDS, 2 * CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["imf-deploy", *command]
        from imf_deploy.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
