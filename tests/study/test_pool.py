"""Trainings in processes of their own: the same results, the same words, and none that lives on."""

import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import preloaded
import pytest

from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings, GivenTeacher, TrainingSettings
from imf_deploy.study.pool import Bench, trainer
from imf_deploy.study.run import Run, train
from imf_deploy.teaching.teacher import Teacher

BASE = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cpu")
ENDLESS = Run.of("resnet8", "ce", {}, replace(BASE, epochs=1_000_000))


@pytest.fixture
def bench(
    image_folder: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    # As many threads as the tests themselves have.
    monkeypatch.setattr("imf_deploy.study.pool.usable_cpus", lambda: 1)
    before = set(multiprocessing.active_children())
    yield Bench(
        DataSettings(str(image_folder)),
        GivenTeacher(teacher_weights=str(teacher_file)),
        "cpu",
        tmp_path / "runs",
    )
    assert set(multiprocessing.active_children()) == before


def once_training(folder: Path, act: Callable[[], object]) -> threading.Thread:
    """Start a thread that acts when the first checkpoint is there."""

    def watch() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if any(folder.glob("resnet8-*.checkpoint")):
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_two_jobs_train_what_one_would(bench: Bench, data: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    runs = [
        Run.of("resnet8", method, settings, BASE, tested=True)
        for method, settings in (("ce", {}), ("imf", {"alpha": 2.0, "beta": 20.0, "temperature": 4.0}))
    ]
    bad = Run.of("resnet9", "kd", {"beta": 20.0, "temperature": 4.0}, BASE)
    with trainer(bench, 2) as train_all:
        found = dict(train_all(runs))
        assert len(multiprocessing.active_children()) == 2
        # The folder is held until the block is left.
        with pytest.raises(UsageError, match="another study trains in"), trainer(bench, 1):
            raise AssertionError
        again = dict(train_all(runs))
        with pytest.raises(UsageError) as failed:
            list(train_all([runs[0], bad]))
    assert found == again
    assert str(failed.value).startswith("resnet9 kd seed 0: unknown model 'resnet9'")
    for index, run in enumerate(runs):
        expected = train(run, data, teacher, tmp_path / "alone")
        assert replace(found[index], cpu_seconds=None) == replace(expected, cpu_seconds=None)
    weights = {path.name: path.read_bytes() for path in bench.folder.glob("*.safetensors")}
    assert len(weights) == 2
    assert weights == {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("*.safetensors")}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_process_that_is_killed_is_told_of(bench: Bench) -> None:
    others = set(multiprocessing.active_children())

    def kill() -> None:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()

    expected = "the process of a training was killed, perhaps for lack of memory. Give fewer `jobs`"
    with pytest.raises(ImfDeployError, match=re.escape(expected)), trainer(bench, 1) as train_all:
        watching = once_training(bench.folder, kill)
        list(train_all([ENDLESS]))
    watching.join()


def test_after_an_interruption_no_process_lives_on(bench: Bench) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), trainer(bench, 1) as train_all:
            once_training(bench.folder, lambda: os.kill(os.getpid(), signal.SIGINT))
            list(train_all([ENDLESS, replace(ENDLESS, student="resnet14")]))
    finally:
        signal.signal(signal.SIGINT, before)
    # What was cut off can be gone on with; the other one was never begun. The fixture counts processes.
    assert [path.name.split("-")[0] for path in bench.folder.glob("*.checkpoint")] == ["resnet8"]
    assert not list(bench.folder.glob(".tmp-*"))
    left = bench.folder / ".tmp-of-a-process-that-was-killed.checkpoint"
    left.touch()
    with trainer(bench, 1):  # nobody holds the folder any more
        assert not left.exists()


def children_of(process: int) -> set[int]:
    """Return the processes that a process started, by Linux's own account."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == process:
                    found.add(int(entry.name))
        except OSError:
            continue  # gone meanwhile
    return found


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not on Linux")
def test_processes_end_with_a_study_that_is_killed(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    command = [
        "study", "--data", str(image_folder), "--teacher-weights", str(teacher_file), "--students", "resnet8",
        "--methods", "ce", "--seeds", "0", "--tries", "1", "--epochs", "1000000", "--batch-size", "8",
        "--device", "cpu", "--bench-seconds", "0", "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    study = preloaded.start(["-m", "imf_deploy", *command], cwd=tmp_path, stderr=subprocess.PIPE)
    children: set[int] = set()

    def kill() -> None:
        children.update(children_of(study.pid))
        study.kill()

    once_training(tmp_path / "out" / "runs", kill).join()
    assert study.wait(60) == -signal.SIGKILL
    # Standard error closes when the last process that holds it has ended.
    assert study.stderr is not None
    study.stderr.read()
    assert len(children) >= 1
    deadline = time.monotonic() + 60
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(child) for child in children)
