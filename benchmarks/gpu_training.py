"""Time distillation steps on a CUDA device, and print the utilisation of the device.

Sections (``--only`` selects some):

step   MobileNetV2 at 28 pixels with the packaged teacher's architecture: reading every loss back from the
GPU, eagerly, and as a CUDA graph; fp32 and bf16; batches of 64 and 512. The losses of the first steps are
compared. large  a folder of JPEGs at 224 pixels, ResNet-50 as the teacher: decoded while training, and from
the GPU's memory, which shows the bottleneck. jobs   1, 2 and 4 trainings at the same time on one GPU.

Weights are random, and images are generated here; nothing is downloaded. GPU utilisation is from NVML.

    python benchmarks/gpu_training.py --json gpu_training.json
    python benchmarks/gpu_training.py --only step --budget 60
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from photographs import jpegs
from torch import Tensor

from imf_deploy.data import DataSet, encoded, open_data
from imf_deploy.data.batches import TrainLoader
from imf_deploy.data.dataset import MemoryImages, Split
from imf_deploy.distillation.imf_task import ImfTask, training_graph
from imf_deploy.models import ModelSpec, build_model, find_blocks
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import BranchSettings, DataSettings, LossSettings, TrainingSettings
from imf_deploy.settings.training import Precision
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.distributed import accelerator
from imf_deploy.training.parts import Parts
from imf_deploy.training.speed import Speed
from imf_deploy.training.terms import Terms
from imf_deploy.training.training import READ_EVERY, Training

Mode = Literal["reading", "eager", "graph"]
SECTIONS = ("step", "large", "jobs")
MODES: dict[Mode, str] = {
    "reading": "eager, every loss read",
    "eager": "eager",
    "graph": "CUDA graph",
}
COMPARED = 50
"""Number of steps whose losses are compared."""
WARMUP = 12


@dataclass(frozen=True)
class Row:
    """The result of one training.

    Attributes:
        section: Its section.
        name: Name of the way to train.
        precision: Precision of the forward pass.
        batch_size: Images per step.
        milliseconds: Mean time of a step.
        images_per_second: The same as images per second.
        use: GPU utilisation in words; empty if NVML does not respond.
        losses: Losses of the first steps.
        failure: Why a step was not captured.
    """

    section: str
    name: str
    precision: str
    batch_size: int
    milliseconds: float
    images_per_second: float
    use: str
    losses: list[float]
    failure: str = ""

    def __str__(self) -> str:
        about = f"{self.section:6} {self.name:28} {self.precision} batch {self.batch_size:4}"
        speed = f"{self.milliseconds:8.2f} ms/step {self.images_per_second:9,.0f} images/s"
        return f"{about} {speed}  {self.use} {self.failure}".rstrip()


class _Recorded(Terms):
    """Keeps the losses of the first steps, on the device."""

    def __init__(self, every: int) -> None:
        super().__init__(every)
        self.losses: list[Tensor] = []

    def add(self, names: tuple[str, ...], values: Tensor, step: int) -> None:
        if len(self.losses) < COMPARED:
            self.losses.append(values.sum())
        super().add(names, values, step)


def noise(size: int, classes: int, count: int) -> DataSet:
    """Return noise images: the time of a step does not depend on their content."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    split = Split.whole(MemoryImages(images, torch.randint(0, classes, (count,), generator=generator)))
    preprocess = Preprocess(size, "none", size, (0.5,) * 3, (0.25,) * 3, tuple(map(str, range(classes))))
    return DataSet("noise", preprocess, split, split.subset(torch.arange(0)), split, "noise")


@contextmanager
def training(
    data: DataSet, teacher: str, batch_size: int, precision: Precision, mode: Mode, **changes: Any
) -> Iterator[Training]:
    """Yield a seeded distillation of MobileNetV2 before its first epoch."""
    torch.manual_seed(0)
    device = torch.device("cuda")
    size, classes = data.preprocess.size, data.preprocess.num_classes
    its = ModelSpec.for_images(teacher, classes, size)
    network = build_model(its).eval().requires_grad_(False)
    network.to(device, memory_format=torch.channels_last)
    spec = ModelSpec.for_images("mobilenetv2", classes, size)
    graph, _, features = training_graph(spec, find_blocks(network, size), BranchSettings())
    task = ImfTask(graph, Teacher(network, its, "", 0.0), features, LossSettings())
    steps = len(data.train) // batch_size
    config = TrainingSettings(
        epochs=math.ceil(2000 / steps),
        batch_size=batch_size,
        device="cuda",
        train_precision=precision,
        **changes,
    )
    with accelerator(device, precision) as prepared:
        parts = Parts(task, config, classes)
        made = Training(task, data, config, parts, device, prepared, capture=mode == "graph")
        made._terms = _Recorded(READ_EVERY)
        if mode == "reading":
            read_every_loss(made)
        try:
            yield made
        finally:
            made.finish()


def read_every_loss(made: Training) -> None:
    """Let a training wait for the GPU in each step, and send it each batch, as earlier versions did."""
    made._ahead = False
    made._terms = _Recorded(1)
    if isinstance(made._loader, TrainLoader):
        made._loader._resident = None
    for group in made._optimizer.param_groups:
        group |= {"fused": None, "foreach": None, "lr": float(group["lr"])}


def steps_of(made: Training) -> Iterator[None]:
    """Run steps without end, epoch after epoch."""
    while True:
        for _ in made.steps(math.inf):
            yield
        made.end_epoch()


def measure(section: str, name: str, made: Training, seconds: float) -> Row:
    """Time the steps of a training, after some that are not timed."""
    device, steps = torch.device("cuda"), steps_of(made)
    batch_size = made._loader.batch_size
    for _ in range(WARMUP):
        next(steps)
    torch.cuda.synchronize()
    speed, count, started = Speed(), 0, time.perf_counter()
    with speed.watch(device):
        while time.perf_counter() - started < seconds or count + WARMUP < COMPARED:
            next(steps)
            count += 1
            if count % 10 == 0:
                # So that the time is that of the device, not of the launches.
                torch.cuda.synchronize()
        torch.cuda.synchronize()
        took = time.perf_counter() - started
    losses = torch.stack(cast(_Recorded, made._terms).losses).tolist()
    failure = made._captured.failure if made._captured else ""
    use = speed.describe().partition(", GPU ")[2]
    milliseconds = took / count * 1000
    rate = batch_size / milliseconds * 1000
    return Row(
        section, name, made._config.train_precision, batch_size, milliseconds, rate, use, losses, failure
    )


def apart(first: Row, second: Row) -> float:
    """Return the largest relative difference between the losses of two trainings."""
    pairs = zip(first.losses[:COMPARED], second.losses[:COMPARED], strict=True)
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)


def step_section(seconds: float) -> Iterator[Row]:
    """Yield the rows of small images, and print the differences of the losses."""
    for batch_size in (64, 512):
        data = noise(28, 10, batch_size * 150)
        for precision in ("fp32", "bf16"):
            rows: dict[Mode, Row] = {}
            for mode, name in MODES.items():
                with training(data, "resnet14x2", batch_size, precision, mode) as made:
                    rows[mode] = measure("step", name, made, seconds)
                yield rows[mode]
            print(
                f"       largest relative difference of {COMPARED} losses: CUDA graph to eager "
                f"{apart(rows['eager'], rows['graph']):.1e}, eager to eager "
                f"{apart(rows['reading'], rows['eager']):.1e}"
            )


def large_section(seconds: float, images: int) -> Iterator[Row]:
    """Yield the rows of JPEGs at 224 pixels."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        started = time.perf_counter()
        jpegs(folder, images)
        size = sum(path.stat().st_size for path in folder.glob("train/*/*.jpg")) / images
        print(f"       {images} JPEGs of {size / 1000:.0f} kB made in {time.perf_counter() - started:.0f} s")
        usual = encoded.MEMORY_LIMIT
        for name, limit in (("decoded while training", 0), ("from the GPU's memory", 1 << 40)):
            encoded.MEMORY_LIMIT = limit
            try:
                data = open_data(DataSettings(str(folder), val_fraction=0))
            finally:
                encoded.MEMORY_LIMIT = usual
            for precision in ("fp32", "bf16"):
                with training(data, "resnet50", 64, precision, "graph") as made:
                    yield measure("large", name, made, seconds)


def job(seconds: float, barrier: Any, results: Any) -> None:
    """Train next to other processes, and put the images per second into a queue."""
    data = noise(28, 10, 64 * 150)
    with training(data, "resnet14x2", 64, "fp32", "graph") as made:
        steps = steps_of(made)
        for _ in range(WARMUP):
            next(steps)
        torch.cuda.synchronize()
        barrier.wait()
        results.put(measure("jobs", "", made, seconds).images_per_second)


def jobs_section(seconds: float) -> Iterator[Row]:
    """Yield the rows of several trainings at the same time."""
    spawn = multiprocessing.get_context("spawn")
    for count in (1, 2, 4):
        barrier, results = spawn.Barrier(count), spawn.Queue()
        processes = [spawn.Process(target=job, args=(seconds, barrier, results)) for _ in range(count)]
        for process in processes:
            process.start()
        rate = sum(results.get(timeout=120) for _ in processes)
        for process in processes:
            process.join()
        yield Row("jobs", f"{count} at the same time", "fp32", 64, 64 * count / rate * 1000, rate, "", [])


def main() -> None:
    """Print a row for each training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each row")
    parser.add_argument("--images", type=int, default=6000, help="JPEGs of the section large")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds; no row begins after it")
    parser.add_argument("--json", type=Path, help="file that the rows are written to")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"--only: there is no section {', '.join(sorted(unknown))}")
    if not torch.cuda.is_available():
        parser.error("no CUDA device was found")
    started = time.perf_counter()
    about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(f"{about['device']}, PyTorch {about['torch']}, CUDA {torch.version.cuda}")
    sections = {
        "step": lambda: step_section(options.seconds),
        "large": lambda: large_section(3 * options.seconds, options.images),
        "jobs": lambda: jobs_section(options.seconds),
    }
    rows: list[Row] = []
    for name in wanted:
        for row in sections[name]():
            print(row, flush=True)
            rows.append(row)
            if options.json:
                options.json.write_text(json.dumps(about | {"rows": [asdict(row) for row in rows]}, indent=1))
            if time.perf_counter() - started > options.budget:
                print(f"       stopped after {options.budget:g} s")
                return


if __name__ == "__main__":
    main()
