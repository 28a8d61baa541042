"""Runtimes in environments of their own: how each is installed, and runs a file on images."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.untrusted import shorten

Array = npt.NDArray[Any]
LONGEST_RUN_S = 600
"""Longest time in seconds for one file in one runtime."""
_RETRY = ("--retries", "1", "--timeout", "15")

ONNXRUNTIME = """
import onnxruntime
def load(path, output):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run([output], {name: batch})[0]
"""
OPENVINO = """
import openvino
def load(path, output):
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: model(batch)[model.output(output)]
"""
OPENCV = """
import cv2
def load(path, output):
    network = cv2.dnn.readNetFromONNX(path)
    def run(batch):
        network.setInput(batch)
        return network.forward(output)
    return run
"""
TRACT = """
import tract
def load(path, output):
    model = tract.onnx().load(path).into_model()
    plan = tract.runtime_for_name("default").prepare(model)
    return lambda batch: plan.run([batch])[0].to_numpy()
"""
_RUN = """
import sys
import numpy
images, path, output, answers_path = numpy.load(sys.argv[1]), *sys.argv[2:5]
run = load(path, output)
for size in map(int, sys.argv[5:]):
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    answers = [numpy.array(run(numpy.ascontiguousarray(part)), copy=True) for part in parts]
    numpy.save(answers_path + str(size) + ".npy", numpy.concatenate(answers).astype(numpy.float32))
"""
_WEB = """
const fs = require("fs"), ort = require(process.argv[2]);
const [source, path, output, answers_path, type, count, ...rest] = process.argv.slice(3);
const shape = rest.slice(0, 3).map(Number), sizes = rest.slice(3).map(Number);
const buffer = fs.readFileSync(source);
const bytes = buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.length);
const images = type === "uint8" ? new Uint8Array(bytes) : new Float32Array(bytes);
(async () => {
  if (ort.env && ort.env.wasm) ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(path);
  const one = shape[0] * shape[1] * shape[2];
  for (const size of sizes) {
    const answers = [];
    for (let start = 0; start < count; start += size) {
      const end = Math.min(start + size, count), batch = images.slice(start * one, end * one);
      const tensor = new ort.Tensor(type, batch, [end - start, ...shape]);
      answers.push(...(await session.run({[session.inputNames[0]]: tensor}))[output].data);
    }
    fs.writeFileSync(answers_path + size + ".f32", Buffer.from(new Float32Array(answers).buffer));
  }
})().catch((error) => { console.error(String(error)); process.exit(1); });
"""


class NotInstalledError(ImfDeployError):
    """A runtime could not be installed."""


class RefusedError(ImfDeployError):
    """A runtime does not load or run a file."""


@dataclass(frozen=True)
class Question:
    """What a runtime is asked.

    Attributes:
        file: The ONNX file.
        output: Name of its output.
        images: Its input, ``[N, ...]``.
        batches: Batch sizes at which all images are run.
    """

    file: Path
    output: str
    images: Array
    batches: tuple[int, ...]

    def ask(self, python: Sequence[str | Path], script: str) -> dict[int, Array]:
        """Run Python code that defines ``load``; return the answers ``[N, ...]`` at each batch size.

        Args:
            python: Command line of the interpreter.
            script: The code.

        Raises:
            RefusedError: the runtime does not load or run the file; with its own message.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.save(folder / "images.npy", self.images)
            (folder / "run.py").write_text(script + _RUN)
            words = (folder / "run.py", folder / "images.npy", self.file.resolve(), self.output)
            _run([*python, *words, folder / "out", *self.batches])
            return {size: np.load(folder / f"out{size}.npy") for size in self.batches}

    def ask_node(self, package: Path) -> dict[int, Array]:
        """Run a JavaScript package with ONNX Runtime's interface; see :meth:`ask`."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.images.tofile(folder / "images")
            (folder / "run.js").write_text(_WEB)
            words = (folder / "run.js", package, folder / "images", self.file.resolve(), self.output)
            numbers = (len(self.images), *self.images.shape[1:], *self.batches)
            _run(["node", *words, folder / "out", self.images.dtype.name, *numbers])
            return {
                size: np.fromfile(folder / f"out{size}.f32", np.float32).reshape(len(self.images), -1)
                for size in self.batches
            }


@dataclass(frozen=True)
class Client:
    """A runtime, and how it is installed.

    Attributes:
        name: Its name.
        packages: Packages for pip; for npm, the only one.
        script: Python code that defines ``load``; empty for Node.
    """

    name: str
    packages: tuple[str, ...]
    script: str = ""

    def install(self, place: Path, seconds: float = 600) -> None:
        """Make an environment with the packages, from the registries that pip and npm are set up for.

        Raises:
            NotInstalledError: no registry answers, or it has no such package for this machine.
        """
        try:
            if self.script:
                venv.create(place, with_pip=True)
                pip = [_python(place), "-m", "pip", "install", "-q", "--only-binary=:all:", *_RETRY]
                _install([*pip, *self.packages], seconds)
            else:
                npm = shutil.which("npm")
                if npm is None or shutil.which("node") is None:
                    raise NotInstalledError("node and npm are not installed", "Install Node.js")
                place.mkdir(parents=True)
                _install([npm, "install", "--silent", "--prefix", str(place), *self.packages], seconds)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalledError(
                f"{' '.join(self.packages)} could not be installed ({_told(error)})",
                "Check the network, or use `offline`",
            ) from error

    def run(self, place: Path, question: Question) -> dict[int, Array]:
        """Return the answers of the runtime in an environment; see :meth:`Question.ask`."""
        if self.script:
            return question.ask([_python(place), "-I"], self.script)
        return question.ask_node(place / "node_modules" / self.packages[0].rpartition("@")[0])


def _python(place: Path) -> str:
    return str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def _install(command: list[str], seconds: float) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds)  # noqa: S603


def _told(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took more than {error.timeout:g} s"
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return shorten(lines[-1] if lines else type(error).__name__)


def _run(command: Sequence[object]) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=LONGEST_RUN_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RefusedError(_told(error)) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if "rror" in line] or lines or [f"it ended with {done.returncode}"]
        raise RefusedError(shorten(told[-1], 200))
