"""Sound files of every type that imf-deploy reads, made by a tiny run."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from cases import run, start
from subjects import CALIBRATE, HAS_RTX, MAIN_JOB, PRODUCT, RUN, TEACHER, TRT, Words, subjects, write_data

_SECONDS = 600


def prepare(place: Path) -> None:
    """Make one sound file of every type in an empty folder, by forked processes."""
    import torch
    from safetensors.torch import load_file

    write_data(place)
    _finish((*MAIN_JOB, *(TRT if HAS_RTX else ("--trt", "off"))), place)
    torch.save(load_file(place / "run" / "teacher.safetensors"), place / "teacher.pt")
    (place / "alone.onnx").write_bytes((place / f"{RUN}-fp32.onnx").read_bytes())
    _finish((*CALIBRATE[:-1], "made", "--cache", "ranges.json"), place)
    record = json.loads((place / f"{PRODUCT}.json").read_bytes())
    (place / "preprocess.json").write_text(json.dumps(record["preprocess"]))
    _begin_training(place)
    for subject in subjects():
        if not (place / subject.path).is_file():
            raise SystemExit(f"the tiny run did not make {subject.path}")


def _begin_training(place: Path) -> None:
    """Train a teacher, and kill the training when its first checkpoint exists."""
    command = (*TEACHER[:-1], "half/t.safetensors", "--data", "data")
    child = start(tuple("2" if word == "1" else word for word in command), place)
    end = time.monotonic() + _SECONDS
    while not (place / "half" / "t.checkpoint").is_file():
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _finish(command: Words, place: Path) -> None:
    if run(command, place, _SECONDS)[0]:
        raise SystemExit(f"imf-deploy {' '.join(command)} failed:\n{(place / 'stderr').read_text()}")
