"""Estimate the duration of the main job on this machine, from a short timing of its own work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from imf_deploy.benchmark.products import expected_seconds
from imf_deploy.data import DataSet, eval_batches
from imf_deploy.data.unlabelled import with_unlabelled
from imf_deploy.distillation.imf_task import imf_task
from imf_deploy.distillation.refit import FLOATS, PASSES
from imf_deploy.distillation.student import student_spec
from imf_deploy.models import build_model, only_logits
from imf_deploy.pipeline.plan import Plan
from imf_deploy.processes import world_size
from imf_deploy.records.files import sidecar_path
from imf_deploy.run.folder import RunFolder
from imf_deploy.settings import MonitoringSettings, QuantizeSettings, RunSettings, TrainingSettings
from imf_deploy.settings.run import BEST
from imf_deploy.show.format import duration
from imf_deploy.teaching.adapter import InputAdapter
from imf_deploy.teaching.fine_tuning import teacher_spec
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.checkpoint import steps_done
from imf_deploy.training.device import choose_device
from imf_deploy.training.supervised import Supervised
from imf_deploy.training.timing import time_call, time_steps, untouched_generators

SECONDS = 1.2
"""Time in seconds that the steps of one training are measured for."""
IMAGES = 64
"""Number of images that forward passes are measured on."""

# Measured for the main job with MobileNetV2, by benchmarks/first_run.py.
TUNING_STEP = 1.5
"""Cost of a step of quantisation-aware training, in steps of the distillation."""
FITTING = 0.85
"""Cost of re-fitting heads, including the passes that collect their features, in times of those passes."""
TRACES = 60.0
"""Cost of an export that does not depend on images, in times of building the student in Python."""
INT8_PASSES = 6.0
"""Cost of calibration and ranking, in passes over the validation and calibration images."""
FILE_PASSES = 1.0
"""Cost of verifying a file, in passes over the test images."""
REPORT = 30.0
"""Cost of charts and pages, in times of building the student in Python."""

TITLES = {"teacher": "the teacher", "distil": "training", "refit": "heads", "tune": "tuning for INT8",
          "files": "files", "latencies": "latencies", "report": "report"}  # fmt: skip
"""Parts of a run in the order in which they run, with their names for users."""
WORTH_NAMING = 0.05
"""Smallest share of the whole that is mentioned."""


@dataclass(frozen=True)
class Estimate:
    """The expected duration of a run.

    Attributes:
        parts: Seconds by part, in the order in which they run.
    """

    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        """Expected seconds of the whole run."""
        return sum(self.parts.values())

    def sentence(self) -> str:
        """Return how long it will take, and its main parts."""
        named = [
            f"{TITLES[part]} {duration(seconds)}"
            for part, seconds in self.parts.items()
            if seconds >= WORTH_NAMING * self.seconds
        ]
        return f"This will take about {duration(self.seconds)} on this machine ({', '.join(named)})"


@dataclass(frozen=True)
class _Speed:
    """Measured times in seconds.

    Attributes:
        teacher_step: Step of the teacher's training; 0 if none is left to run.
        step: Step of the distillation; 0 if neither distillation nor tuning is left to run.
        student: One image through the student, on the training device.
        taught: One image through student, branches and teacher, on the training device.
        cpu: One image through the student on the CPU, where files are made and verified.
        build: Building the student, as a measure of Python's time for as many modules.
        floats: Number of features and logits of one image that heads are fitted to, which bounds their
            number.
    """

    teacher_step: float
    step: float
    student: float
    taught: float
    cpu: float
    build: float
    floats: int


def estimate_run(
    config: RunSettings,
    plan: Plan,
    teacher: Teacher | DataSet,
    folder: RunFolder,
    bench_seconds: float,
    cuda_graph: bool = MonitoringSettings.cuda_graph,
) -> Estimate | None:
    """Time a few steps of the run on copies, and add up the remaining work.

    Random state, weights and statistics of the run are not changed.

    Args:
        config: Settings of the run.
        plan: The plan made from them.
        teacher: The given teacher, or the data that one is trained on first.
        folder: Folder of the run, of which finished parts are not counted.
        bench_seconds: Time that each file's latency is measured for.
        cuda_graph: See :class:`imf_deploy.settings.MonitoringSettings`.

    Returns:
        The estimate; ``None`` if several processes train, because their steps have to be timed together.
    """
    if world_size() > 1:
        return None
    data, products = plan.data, len(plan.names)
    train, taught = config.distill, config.teacher
    seen = with_unlabelled(data)
    steps = _steps_left(train.epochs, train, seen, folder.distilled)
    given = isinstance(teacher, Teacher)
    teacher_steps = 0 if given else _steps_left(taught.epochs, taught, data, folder.teacher)
    tuning_steps = _steps_left(config.qat_epochs, train, data, folder.qat)
    device = choose_device(train.device)
    with untouched_generators(device):
        speed = _measure(config, data, teacher, device, teacher_steps, steps or tuning_steps, cuda_graph)
    validation, test = len(data.validation), len(data.test)
    made = min(products, 3) if config.products == (BEST,) else products
    fitted = min(PASSES * len(data.train), FLOATS // speed.floats) if config.distill.refit and steps else 0
    parts = {
        "teacher": teacher_steps * speed.teacher_step,
        "distil": steps * speed.step + steps / _per_epoch(train, seen) * validation * speed.student,
        "refit": FITTING * fitted * speed.taught,
        "tune": tuning_steps * speed.step * TUNING_STEP,
    }
    precisions = plan.choice.written(plan.engines is not None)
    quantised = "int8" in precisions
    int8 = INT8_PASSES * (validation + QuantizeSettings.images) * quantised
    each = (test + validation) * (1 + FILE_PASSES * len(precisions)) + int8
    parts["files"] = made * (each * speed.cpu + TRACES * speed.build)
    parts["latencies"] = expected_seconds(made, made * len(precisions), bench_seconds)
    parts["report"] = REPORT * speed.build
    return Estimate({part: seconds for part, seconds in parts.items() if seconds > 0})


def _per_epoch(config: TrainingSettings, data: DataSet) -> int:
    return len(data.train) // min(config.batch_size, len(data.train))


def _steps_left(epochs: int, config: TrainingSettings, data: DataSet, path: Path) -> int:
    """Return the number of steps that a training has left, judging by its files."""
    if sidecar_path(path).is_file():
        return 0
    per_epoch = _per_epoch(config, data)
    return max(epochs * per_epoch - steps_done(path.with_suffix(".checkpoint"), per_epoch), 0)


def _measure(
    config: RunSettings,
    data: DataSet,
    teacher: Teacher | DataSet,
    device: torch.device,
    teacher_steps: int,
    steps: int,
    cuda_graph: bool,
) -> _Speed:
    spec = student_spec(config.distill, data)
    teacher_step = 0.0
    if isinstance(teacher, DataSet):
        taught = teacher
        its = teacher_spec(config.teacher, taught)
        supervised = Supervised(build_model(its), config.teacher.label_smoothing, data.preprocess.task)
        if teacher_steps:
            teacher_step = time_steps(supervised, taught, config.teacher, SECONDS, teacher_steps, cuda_graph)
        module = supervised.module.to(device).eval().requires_grad_(False)
        if adapter := InputAdapter.between(data.preprocess, taught.preprocess):
            adapter.attach(module)
        teacher = Teacher(module, its, "", 0.0)
    task, graph, _, _ = imf_task(spec, teacher, config.distill)
    step = (
        time_steps(task, with_unlabelled(data), config.distill, SECONDS, steps, cuda_graph) if steps else 0.0
    )
    images = next(
        eval_batches(data.train.subset(torch.arange(min(IMAGES, len(data.train)))), data.preprocess)
    )[0]
    shown = images.to(device)
    graph.to(device).eval()
    with torch.inference_mode():
        student = time_call(lambda: only_logits(graph.student, graph.student(shown)), device) / len(images)
        branches = time_call(lambda: graph(shown), device) / len(images)
        own, pooled = graph.pooled(shown)
        teaching = time_call(lambda: teacher.logits(shown), device) / len(images)
        began = time.perf_counter()
        plain = build_model(spec).eval().to(memory_format=torch.channels_last)
        build = time.perf_counter() - began
        cpu = student
        if device.type != "cpu":
            cpu = time_call(lambda: plain(images), torch.device("cpu")) / len(images)
    floats = sum(each.shape[1] for each in (own, *pooled))
    return _Speed(teacher_step, step, student, branches + teaching, cpu, build, floats)
