"""Kill the main job at random moments, run it again to completion, and compare the results."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import Random

from subjects import MAIN_JOB, Words, imf, write_data

_CUT = ("--epochs", "3", "--teacher-epochs", "3", "--checkpoint-minutes", "0", "--trt", "off")
# Measured times, and times of messages, also differ between two undisturbed runs.
_TIMED = (".html", ".md", "report.json")


def kills(output: Path, count: int, seed: int) -> int:
    """Kill ``count`` runs; print how they ended, and return 1 if one did not end like an undisturbed run.

    Args:
        output: Folder for the runs.
        count: Number of killed runs; every third is killed twice.
        seed: Seed of the moments.
    """
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "data", ignore_errors=True)
    shutil.rmtree(output / "shards", ignore_errors=True)
    write_data(output)
    command = (*MAIN_JOB[:-2], *_CUT, "--output")
    begin = time.monotonic()
    whole = _whole(output, (*command, "whole"))
    length = time.monotonic() - begin
    random, ended = Random(seed), Counter[str]()
    for number in range(count):
        name = f"killed-{number}"
        shutil.rmtree(output / name, ignore_errors=True)
        moments = [random.uniform(0, length) for _ in range(2 if number % 3 == 2 else 1)]
        kept = [_kill(output, (*command, name), moment) for moment in moments]
        verdict = _compare(whole, _whole(output, (*command, name)))
        ended[verdict] += 1
        told = ", ".join(
            f"at {moment:.1f} s with {files} files" for moment, files in zip(moments, kept, strict=True)
        )
        print(f"{name}: killed {told}: {verdict}", flush=True)
        if verdict == "same":
            shutil.rmtree(output / name)
    print(f"{count} runs: " + ", ".join(f"{times} {verdict}" for verdict, times in ended.most_common()))
    return int(set(ended) != {"same"})


def _kill(output: Path, command: Words, moment: float) -> int:
    """Kill a run after ``moment`` seconds; return the number of files it left."""
    process = imf(command, output, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return sum(1 for path in (output / command[-1]).rglob("*") if path.is_file())


def _whole(output: Path, command: Words) -> dict[str, str] | str:
    """Run the main job to completion; return the hashes of its files, or its message if it failed."""
    process = imf(command, output, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=600)
    if process.returncode:
        return f"exit code {process.returncode}: {said.decode().strip().splitlines()[-1]}"
    folder = output / command[-1]
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(_TIMED) and not _measured(path)
    }


def _measured(path: Path) -> bool:
    return path.name.endswith(".onnx.json")  # its session's operators and times depend on machine and time


def _compare(whole: dict[str, str] | str, again: dict[str, str] | str) -> str:
    if isinstance(whole, str) or isinstance(again, str):
        return whole if isinstance(whole, str) else str(again)
    different = sorted(name for name in whole.keys() | again.keys() if whole.get(name) != again.get(name))
    return f"other files: {', '.join(different)}" if different else "same"
