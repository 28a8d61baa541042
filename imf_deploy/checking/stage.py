"""Stage: load a file in other runtimes and on other processors, and compare the answers."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from imf_deploy.benchmark.inputs import noise
from imf_deploy.checking.clients import ONNXRUNTIME, Client, NotInstalledError, Question, RefusedError
from imf_deploy.checking.result import Checked, State, Verdict
from imf_deploy.checking.tables import look_up
from imf_deploy.checking.targets import TENSORRT, Target, read_target
from imf_deploy.data import reopen_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.flavour import choose_flavour
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.onnx_record import onnx_record
from imf_deploy.export.tensorrt_writer import check_readable
from imf_deploy.files import sha256_file
from imf_deploy.portability import other_cpus
from imf_deploy.progress import say, track
from imf_deploy.records.files import OnnxFile
from imf_deploy.runners.base import Batch
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings import Gate
from imf_deploy.settings.check import CheckSettings
from imf_deploy.verification.ladder import Tolerance, file_tolerance, step

BATCHES = (1, 5)
"""Batch sizes at which a file is run, unless it fixes another."""


def check(path: Path, config: CheckSettings, preprocess: Path | None = None, logits: str = "") -> Checked:
    """Check a file in the requested runtimes and on the requested processors.

    Each runtime is installed into a temporary environment of its own, and runs the file on test images of the
    recorded data, or on noise, at two batch sizes. Its answers are compared with those of ONNX Runtime here,
    within the tolerances of the parity ladder; those of INT8 files by the agreement that their gate demands.
    If a runtime cannot be installed, tables decide. TensorRT, as installed here, only reads the file.

    Args:
        path: An ONNX file.
        config: Runtimes, processors and images.
        preprocess: JSON with the preprocessing, for a file that does not carry it.
        logits: Output that is compared; if empty, the one that is called so, or the first.

    Raises:
        UsageError: nothing is requested, a runtime is not known, or the file is not an ONNX file.
        ImfDeployError: the file is damaged, or ONNX Runtime does not run it here.
    """
    targets = [read_target(text) for text in dict.fromkeys(config.runtime)]
    if not targets and not config.cpu:
        raise UsageError("nothing to check the file in is given", "Add `runtime` or `cpu`")
    if path.suffix.lower() != ".onnx":
        raise UsageError(
            f"{path} is not an ONNX file", "Engines only run on the GPUs that they were built for"
        )
    info = describe_onnx(path)
    output = logits or ("logits" if "logits" in info.outputs else next(iter(info.outputs)))
    if output not in info.outputs:
        raise UsageError(f"{path} has no output '{output[:60]}'", f"Use {', '.join(list(info.outputs)[:8])}")
    try:
        record: OnnxFile | None = onnx_record(path, info, preprocess)[0]
    except UsageError:  # it does not say how images become its input: noise is
        record = None
    with OnnxRuntimeRunner(path, any_type=True, logits=output, exact_sums=True) as runner:
        images, told, real = _images(record, runner, config.images)
        fixed = runner.input_shape[0]
        batches = BATCHES if fixed is None else (fixed,)
        images = images[: len(images) // batches[-1] * batches[-1]] if fixed else images
        parts = [images[i : i + batches[-1]] for i in range(0, len(images), batches[-1])]
        reference = np.concatenate([runner.infer(part) for part in parts])
    question = Question(path, output, images, batches)
    tolerance = file_tolerance("onnx", info.precision if info.precision in ("fp32", "fp16") else "int8")
    if tolerance.agreement == 0.0 and real:
        gate = record.gate if record and record.gate else Gate()
        tolerance = Tolerance(tolerance.relative, gate.min_agreement)
    verdicts: list[Verdict] = []
    asked = [partial(_in_runtime, target, question, reference, tolerance, config) for target in targets]
    asked += [partial(_on_cpu, cpu, question, reference, tolerance) for cpu in config.cpu]
    with track("Checking", len(asked)) as advance:
        for ask in asked:
            verdicts.append(ask())
            say(f"{verdicts[-1].target}: {verdicts[-1].state}")
            advance(1)
    return Checked(path, sha256_file(path), told, tuple(verdicts))


def _images(record: OnnxFile | None, runner: OnnxRuntimeRunner, count: int) -> tuple[Batch, str, bool]:
    """Return the input of a file, what it is in words, and whether it is images: of its record, or noise."""
    shape = runner.input_shape
    if record and record.data_config:
        try:
            data = reopen_data(record.data_config)
        except ImfDeployError as error:
            say(f"The recorded data is not used: {error.what}")
        else:
            split = data.test if len(data.test) else data.validation
            if len(split):
                chosen = torch.linspace(0, len(split) - 1, min(count, len(split))).round().long()
                pixels = split.fetch(chosen)
                form = record.interface.input
                if form == "float":
                    pixels = record.preprocess.normalize(pixels)
                elif form == "uint8-nhwc":
                    pixels = pixels.permute(0, 2, 3, 1)
                told = f"{len(chosen)} test images of {data.name}"
                return np.ascontiguousarray(pixels.numpy()), told, True
    sides = [side or 32 for side in shape[1:]]
    if record and len(shape) == 4 and record.interface.input == "float":
        sides = list(record.preprocess.shape)
    values = noise((count, *sides), runner.input_type, 0)
    return values, f"noise of shape {list(values.shape)}", False


def _in_runtime(
    target: Target, question: Question, reference: Batch, tolerance: Tolerance, config: CheckSettings
) -> Verdict:
    if target.runtime == TENSORRT:
        return _in_tensorrt(question.file)
    if config.offline:
        return _by_table(target, question.file, "no registry is used")
    client: Client = target.client()
    with tempfile.TemporaryDirectory(prefix="imf-deploy-check-") as folder:
        place = Path(folder) / "environment"
        try:
            client.install(place, config.install_seconds)
        except NotInstalledError as error:
            return _by_table(target, question.file, error.what)
        try:
            answers = client.run(place, question)
        except RefusedError as error:
            return Verdict(str(target), "refused", "run", error.what)
    return _compared(str(target), answers, reference, tolerance)


def _by_table(target: Target, path: Path, why: str) -> Verdict:
    known = look_up(target, path)
    if known.loads is None:
        return Verdict(str(target), "unchecked", "none", f"{why}, and {known.reason}")
    return Verdict(str(target), "expected" if known.loads else "refused", "table", f"{known.reason} ({why})")


def _in_tensorrt(path: Path) -> Verdict:
    library = choose_flavour("auto")
    if not library.flavour:
        return Verdict(TENSORRT, "unchecked", "none", library.reason)
    try:
        check_readable(path, library.flavour)
    except ImfDeployError as error:
        return Verdict(TENSORRT, "refused", "parser", error.what)
    name = "TensorRT-RTX" if library.flavour == "rtx" else "TensorRT"
    return Verdict(TENSORRT, "parses", "parser", f"{name} reads the file; engines run on a GPU only")


def _on_cpu(cpu: str, question: Question, reference: Batch, tolerance: Tolerance) -> Verdict:
    name = f"cpu {cpu}"
    if missing := other_cpus.why_not(cpu):
        return Verdict(name, "unchecked", "none", missing)
    try:
        other_cpus.check(cpu)
        answers = question.ask(other_cpus.emulated(cpu, []), ONNXRUNTIME)
    except RefusedError as error:
        return Verdict(name, "refused", "run", error.what)
    except (OSError, RuntimeError) as error:
        return Verdict(name, "unchecked", "none", str(error))
    return _compared(name, answers, reference, tolerance)


def _compared(name: str, answers: dict[int, Batch], reference: Batch, tolerance: Tolerance) -> Verdict:
    """Return the verdict on answers, at the worst of the batch sizes."""
    rungs = []
    for size, found in answers.items():
        if found.size != reference.size:
            return Verdict(name, "differs", "run", f"at batch {size} its output has the shape {found.shape}")
        rungs.append((size, step(name, "onnxruntime", found.reshape(reference.shape), reference, tolerance)))
    size, worst = max(rungs, key=lambda each: (each[1].status == "fail", each[1].max_abs_diff or 0.0))
    reason = f"at batch {size}: {worst.reason}" if worst.reason else ""
    state: State = "differs" if worst.reason else "agrees"
    return Verdict(name, state, "run", reason, worst.agreement, worst.max_abs_diff)
