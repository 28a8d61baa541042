"""Accuracy, agreement, size and latency of quantised files, in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imf_deploy.benchmark.latency import Ratio, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.tasks.classification import wilson_interval

LAUNCHER = Path(__file__).parents[2] / "tests" / "on_cpu.py"
EMULATED = 400
"""Images that are run on an emulated processor."""
RUN = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
images, found = numpy.load(sys.argv[1]), {}
for path in sys.argv[3:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found[path] = session.run(None, {session.get_inputs()[0].name: images})[0]
numpy.savez(sys.argv[2], **found)
"""
Array = npt.NDArray[Any]


@dataclass
class Row:
    """A file of one tool.

    Attributes:
        label: Name of the row.
        path: ONNX file, or OpenVINO's own form.
        ratios: For each runtime, the latency divided by that of fp32 in ONNX Runtime.
        failed: For each runtime that does not run the file, the reason.
        accuracy: For each runtime, the part of the test images that is right.
        agreement: For each runtime, the part that has the class of fp32.
        elsewhere: Agreement on the emulated processor.
    """

    label: str
    path: Path
    ratios: dict[str, Ratio] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, tuple[int, int]] = field(default_factory=dict)
    elsewhere: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes of the file, with OpenVINO's weights."""
        weights = self.path.with_suffix(".bin")
        more = weights.stat().st_size if self.path.suffix == ".xml" and weights.is_file() else 0
        return self.path.stat().st_size + more


class OnnxRuntime:
    """A file in ONNX Runtime with default options, on one thread."""

    name = "onnxruntime"

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        """Load the file."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        return self

    def __exit__(self, *_: object) -> None:
        """Release the session."""
        del self._session

    def infer(self, batch: Array) -> Array:
        """Return the logits of a batch."""
        logits: Array = self._session.run(None, {self._input: batch})[0]
        return logits


class OpenVino:
    """A file in OpenVINO, compiled for batches of one size, on one thread."""

    name = "openvino"

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        """Read the file."""
        import openvino

        self._core, self._request, self._batch = openvino.Core(), None, 0
        self._model = self._core.read_model(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        """Release the model."""
        del self._model, self._request, self._core

    def infer(self, batch: Array) -> Array:
        """Return the logits of a batch."""
        if len(batch) != self._batch:
            self._model.reshape(batch.shape)
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": "1",
                "INFERENCE_PRECISION_HINT": "f32",
            }
            self._request = self._core.compile_model(self._model, "CPU", settings).create_infer_request()
            self._batch = len(batch)
        logits: Array = self._request.infer([batch])[0].copy()
        return logits


RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def measure_files(rows: list[Row], test: Array, labels: Array, seconds: float, cpu: str | None) -> list[Row]:
    """Measure the files of one network, of which the first is fp32.

    Args:
        rows: The files.
        test: Test images as network input, ``[N, C, H, W]``.
        labels: Their classes, ``[N]``.
        seconds: Measuring time of each file in each runtime; with 0, none is timed.
        cpu: Emulated processor, if any.
    """
    runtimes = [name for name in RUNTIMES if importlib.util.find_spec(name)]
    expected = _answers(OnnxRuntime(rows[0].path), test)
    for row in rows:
        for name in runtimes:
            if row.path.suffix == ".xml" and name == "onnxruntime":
                continue
            try:
                logits = _answers(RUNTIMES[name](row.path), test)
            except Exception as error:  # the runtimes' errors share no base class
                row.failed[name] = str(error).strip().splitlines()[0]
                continue
            row.accuracy[name] = float((logits.argmax(1) == labels).mean())
            row.agreement[name] = (int((logits.argmax(1) == expected.argmax(1)).sum()), len(test))
    if seconds:
        _time(rows, np.ascontiguousarray(test[:1]), seconds)
    if cpu:
        _emulate(rows, test[np.linspace(0, len(test) - 1, EMULATED).round().astype(int)], cpu)
    return rows


def _time(rows: list[Row], batch: Array, seconds: float) -> None:
    """Time all files in alternating rounds, and store the ratios to the first one in ONNX Runtime."""
    runners: Mapping[str, Any] = {
        f"{index} {name}": RUNTIMES[name](row.path) for index, row in enumerate(rows) for name in row.accuracy
    }
    found = measure(runners, batch, duration_s=seconds, loads=6, rounds=60)
    for key, latency in found.items():
        index, _, name = key.partition(" ")
        rows[int(index)].ratios[name] = ratio(latency, found["0 onnxruntime"])


def _answers(runner: Any, test: Array) -> Array:
    with runner:
        return np.concatenate(
            [runner.infer(np.ascontiguousarray(part)) for part in np.split(test, len(test) // 100)]
        )


def _emulate(rows: list[Row], images: Array, cpu: str) -> None:
    """Run the ONNX files on an emulated processor, and store their agreement with fp32."""
    chosen = [row for row in rows if "onnxruntime" in row.accuracy]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        script, given, target = (Path(folder) / name for name in ("run.py", "images.npy", "answers.npz"))
        script.write_text(RUN)
        np.save(given, images)
        files = [str(row.path) for row in chosen]
        subprocess.run(
            [sys.executable, str(LAUNCHER), cpu, str(script), str(given), str(target), *files], check=True
        )
        answers = stack.enter_context(np.load(target))
        expected = answers[files[0]].argmax(1)
        for row in chosen:
            row.elsewhere = (int((answers[str(row.path)].argmax(1) == expected).sum()), len(images))


def table(rows: list[Row], cpu: str | None) -> str:
    """Return the rows as a Markdown table, and why a runtime does not run some of the files."""
    timed = any(row.ratios for row in rows)
    titles = ["", "size"]
    for name in RUNTIMES:
        titles += [f"{name}: accuracy", "agreement", *(["latency"] if timed else [])]
    titles += [f"agreement on {cpu}"] if cpu else []
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        cells = [row.label, f"{row.size / 1e6:.2f} MB"]
        for name in RUNTIMES:
            if name in row.accuracy:
                cells += [f"{row.accuracy[name]:.2%}", _share(row.agreement[name])]
            else:
                cells += ["does not run" if name in row.failed else "–", "–"]
            own = row.ratios.get(name)
            cells += [f"{own.value:.2f} ({own.low:.2f} to {own.high:.2f})" if own else "–"] if timed else []
        cells += [_share(row.elsewhere) if row.elsewhere else "–"] if cpu else []
        lines.append(cells)
    failed = [f"\n{row.label} in {name}: {why}" for row in rows for name, why in row.failed.items()]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), *failed])


def _share(counted: tuple[int, int]) -> str:
    part = counted[0] / counted[1]
    low, high = wilson_interval(part, counted[1])
    return f"{part:.2%} ({low:.1%} to {high:.1%})"
