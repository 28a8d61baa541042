"""Builds of the real TensorRT-RTX are followed, cancelled, and stopped by a broken callback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preloaded
import pytest

from imf_deploy.export import tensorrt_writer
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.export.monitor import PERCENT, Progress, build_monitor
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.settings import BatchRange

BATCH = BatchRange(1, 2, 4)


def test_nested_phases_are_one_fraction_that_never_falls() -> None:
    shown: list[int] = []
    progress = Progress(shown.append)
    progress.start("build", None, 2)
    progress.start("a", "build", 4)
    progress.step("a", 0)
    progress.step("a", 1)
    assert sum(shown) == 25
    progress.finish("a")
    progress.step("build", 0)
    progress.start("b", "build", 1)
    progress.start("c", "b", 0)  # a phase without steps
    progress.step("c", 0)
    assert sum(shown) == PERCENT
    for phase in ("c", "b", "build"):
        progress.finish(phase)
    progress.step("unknown", 3)
    assert sum(shown) == PERCENT
    assert min(shown) > 0


def follow(monkeypatch: pytest.MonkeyPatch, advance: Callable[[int, threading.Event], None]) -> None:
    """Let every build call ``advance`` with its progress and the event that cancels it."""

    def replaced(trt: Any, shown: Callable[[int], None], cancelled: threading.Event) -> Any:
        return build_monitor(trt, lambda points: advance(points, cancelled), cancelled)

    monkeypatch.setattr(tensorrt_writer, "build_monitor", replaced)


@pytest.mark.usefixtures("rtx")
def test_a_build_advances_to_the_end(
    onnx_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    follow(monkeypatch, lambda points, cancelled: shown.append(points))
    build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH)
    assert sum(shown) == PERCENT
    assert len(shown) > 5


@pytest.mark.usefixtures("rtx")
def test_what_a_callback_raises_ends_the_build_and_is_raised(
    onnx_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(points: int, cancelled: threading.Event) -> None:
        raise OSError("the terminal is gone")

    with monkeypatch.context() as patch:
        follow(patch, broken)
        with pytest.raises(OSError, match="the terminal is gone"):
            build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH)
    assert not list(tmp_path.iterdir())
    assert build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH).layers


@pytest.mark.usefixtures("rtx")
def test_a_cancelled_build_returns_nothing(onnx_files: dict[str, Path]) -> None:
    trt = import_tensorrt("rtx")
    session = tensorrt_writer.open_session("rtx")
    network, config = session.parse(onnx_files["fp16"]), session.builder.create_builder_config()
    cancelled = threading.Event()
    cancelled.set()
    tensorrt_writer._set_batch(session, config, network, (BATCH,))
    monitor = config.progress_monitor = build_monitor(trt, lambda points: None, cancelled)
    assert session.builder.build_serialized_network(network, config) is None
    assert monitor.error is None


SCRIPT = """
import os, signal, sys
from pathlib import Path
from imf_deploy.cli import _interrupt
from imf_deploy.export import tensorrt_writer
from imf_deploy.export.monitor import build_monitor
from imf_deploy.settings import BatchRange


model, folder, flavour = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGTERM, _interrupt)

def signalling(trt, advance, cancelled):
    class Signalling(type(build_monitor(trt, advance, cancelled))):
        def phase_start(self, name, parent, steps):
            if not parent:
                self.whole = name
                if moment == "start":
                    os.kill(os.getpid(), signal.SIGTERM)
            super().phase_start(name, parent, steps)

        def step_complete(self, name, step):
            seen.append(name)
            if moment == "step" and len(seen) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                cancelled.wait(10)
            return super().step_complete(name, step)

        def phase_finish(self, name):
            super().phase_finish(name)
            if moment == "finish" and name == self.whole:
                os.kill(os.getpid(), signal.SIGTERM)

    return Signalling()

for moment in ("start", "step", "finish"):
    seen = []
    tensorrt_writer.build_monitor = signalling
    try:
        tensorrt_writer.build_engine(model, folder / "a.engine", flavour, BatchRange(1, 2, 4))
    except KeyboardInterrupt:
        print(moment, len(seen), *sorted(os.listdir(folder)))
tensorrt_writer.build_monitor = build_monitor
print(tensorrt_writer.build_engine(model, folder / "b.engine", flavour, BatchRange(1, 2, 4)).layers > 0)
"""


@pytest.mark.usefixtures("rtx")
def test_a_signal_in_a_callback_ends_the_build_without_a_file(
    onnx_files: dict[str, Path], tmp_path: Path
) -> None:
    done = preloaded.run(["-c", SCRIPT, str(onnx_files["fp32"]), str(tmp_path), "rtx"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    start, step, finish, built = done.stdout.splitlines()
    for line, moment in ((start, "start"), (step, "step"), (finish, "finish")):
        assert line.split()[0] == moment
        assert len(line.split()) == 2, "a file was left"
    assert step == "step 3", "the build went on after its step"
    assert int(finish.split()[1]) > 3
    assert built == "True"
    assert done.stderr == ""
