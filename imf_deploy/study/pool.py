"""Parallel trainings, each in a process of its own, and their gain on a shared GPU."""

import multiprocessing
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from statistics import mean, median

from imf_deploy.compat import usable_cpus
from imf_deploy.data import DataSet, open_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import write_error
from imf_deploy.progress import say
from imf_deploy.settings import DataSettings, GivenTeacher, MonitoringSettings
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run, train
from imf_deploy.teacher_memory.memory import TeacherMemory
from imf_deploy.teaching.teacher import Teacher, find_teacher
from imf_deploy.training.device import choose_device

Kind = tuple[str, str, int]
"""Kinds of trainings that take the same time: student, method and epochs."""


class Sharing:
    """Compares trainings that ran alone on the GPU with those that shared it.

    Args:
        jobs: Number of trainings at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._alone: dict[Kind, list[float]] = defaultdict(list)
        self._shared: dict[Kind, list[float]] = defaultdict(list)

    @property
    def unmeasured(self) -> bool:
        """Whether no training has run alone so far."""
        return not self._alone

    def add(self, run: Run, seconds: float, alone: bool) -> None:
        """Add the time of a training.

        Args:
            run: The training.
            seconds: Duration.
            alone: Whether no other training was running.
        """
        kind = run.student, run.method, run.train.epochs
        (self._alone if alone else self._shared)[kind].append(seconds)

    def gain(self) -> float | None:
        """Return the speed-up over sequential trainings; ``None`` if no kind was run both ways."""
        both = self._alone.keys() & self._shared.keys()
        ratios = [mean(self._alone[kind]) / mean(self._shared[kind]) for kind in both]
        return self.jobs * median(ratios) if ratios else None

    def describe(self) -> str:
        """Return the gain as a sentence without a full stop; empty if it is not known."""
        gain = self.gain()
        if gain is None:
            return ""
        sentence = (
            f"{self.jobs} trainings share the GPU: they are {gain:.2f} times as fast as one after the other"
        )
        return sentence if gain >= 1.05 else f"{sentence}; fewer `jobs` would be as fast"


@dataclass(frozen=True)
class Bench:
    """Inputs that all trainings of a study share.

    Attributes:
        data: The data set.
        teacher: Weights and architecture of the teacher.
        device: Name of the device, as for ``device``.
        folder: Folder that keeps the trainings.
        memory_gb: Disk space in GB to cache the teacher's outputs in, which trainings of the same seed share;
            0 caches none. The results are the same, bit for bit.
    """

    data: DataSettings
    teacher: GivenTeacher
    device: str
    folder: Path
    memory_gb: float = MonitoringSettings.teacher_outputs_gb

    @property
    def memory(self) -> Path:
        """The folder of cached outputs of the teacher."""
        return self.folder / "teacher-outputs"

    def open(self) -> tuple[DataSet, Teacher]:
        """Open the data and load the teacher."""
        data = open_data(self.data)
        teacher = find_teacher(self.teacher, data, self.device)
        if self.memory_gb:
            memory = TeacherMemory(self.memory, teacher.identity, self.memory_gb * 1e9)
            teacher = replace(teacher, memory=memory)
        return data, teacher


Trainer = Callable[[Sequence[Run]], Iterator[tuple[int, Trained]]]
"""Runs trainings and yields each result with its position, in the order in which they end."""


@contextmanager
def trainer(bench: Bench, jobs: int) -> Iterator[Trainer]:
    """Yield a function that runs trainings, ``jobs`` at a time; all processes end with the block.

    Each job gets its share of the processors. Results depend only on the settings and, in the last bits, on
    the number of threads. Jobs on a GPU share it: the first training runs alone, so that the gain of sharing
    can be reported at the end.

    Raises:
        UsageError: another study trains in the same folder, or a training found a setting out of range.
        ImfDeployError: a training failed, or its process was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    threads = max(usable_cpus() // jobs, 1)
    sharing = Sharing(jobs) if jobs > 1 and choose_device(bench.device).type == "cuda" else None
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_start, initargs=(bench, threads))

    def run_all(runs: Sequence[Run]) -> Iterator[tuple[int, Trained]]:
        try:
            left = list(range(len(runs)))
            while left:
                alone = sharing is not None and sharing.unmeasured
                now, left = (left[:1], left[1:]) if alone else (left, [])
                futures = {pool.submit(_train, runs[index]): index for index in now}
                for future in as_completed(futures):
                    index = futures[future]
                    try:
                        result, seconds = future.result()
                    except ImfDeployError as error:
                        raise type(error)(f"{runs[index].label}: {error.what}", error.hint) from error
                    if sharing:
                        sharing.add(runs[index], seconds, alone)
                    yield index, result
        except BrokenProcessPool as error:
            raise ImfDeployError(
                "the process of a training was killed, perhaps for lack of memory",
                "Give fewer `jobs`; the same command resumes the study",
            ) from error

    before = set(multiprocessing.active_children())
    with _alone(bench.folder):
        try:
            yield run_all
            pool.shutdown()
            if sharing and (gain := sharing.describe()):
                say(gain)
        except BaseException:
            # An interrupted training has a checkpoint; waiting for its end could take an hour.
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a folder of trainings, because two studies at once would write the same checkpoints.

    Partial files of killed processes are removed. The system releases the lock however the process ends.

    Raises:
        UsageError: another study holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise write_error(folder, error) from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # not on Unix
        except BlockingIOError as error:
            raise UsageError(
                f"another study trains in {folder}", "Wait for it, or give another `output`"
            ) from error
        try:
            _tidy(folder)
            yield
        finally:
            _tidy(folder)


def _tidy(folder: Path) -> None:
    for leftover in [*folder.glob(".tmp-*"), *folder.glob("*/.tmp-*")]:
        leftover.unlink(missing_ok=True)


_OPENED: list[tuple[Bench, DataSet, Teacher]] = []


def _start(bench: Bench, threads: int) -> None:
    """Prepare a process: it prints nothing, uses its share of the processors, and ends with its parent."""
    import signal

    import torch

    from imf_deploy.progress import log, show_on

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log.disabled = True
    show_on(None)
    torch.set_num_threads(threads)
    _OPENED.append((bench, *bench.open()))


def _end_with_parent() -> None:
    """Exit when the study was killed, because another one may resume the same checkpoints."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _train(run: Run) -> tuple[Trained, float]:
    """Return the result of a training, and its duration in seconds."""
    bench, data, teacher = _OPENED[0]
    started = time.perf_counter()
    return train(run, data, teacher, bench.folder), time.perf_counter() - started
