"""Time a training step of IMF against the minimum of any distillation, side by side.

The minimum is the teacher's forward pass without gradients, the plain student's forward and backward pass
with cross-entropy, and the optimiser's step, on the same batch, in the same memory format and by the same
operators. Rounds alternate between the two, so that a machine that drifts or is busy favours none.

    python benchmarks/imf_step.py --size 32 --batch-size 64
    python benchmarks/imf_step.py --size 224 --batch-size 8
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from imf_deploy.benchmark.measure import slice_orders
from imf_deploy.data.dataset import DataSet, MemoryImages, Split
from imf_deploy.distillation.imf_task import ImfTask, training_graph
from imf_deploy.models import ModelSpec, build_model, find_blocks
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import BranchSettings, LossSettings, TrainingSettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.cpu_layers import fast_layers
from imf_deploy.training.device import choose_device
from imf_deploy.training.distributed import accelerator
from imf_deploy.training.optimizer import build_optimizer
from imf_deploy.training.parts import Parts
from imf_deploy.training.training import Training

Step = Callable[[], None]


def random_data(size: int, classes: int, count: int) -> DataSet:
    """Return noise images: the time of a step does not depend on their content."""
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    split = Split.whole(MemoryImages(images, torch.randint(0, classes, (count,))))
    labels = tuple(str(index) for index in range(classes))
    preprocess = Preprocess(size, "none", size, (0.5,) * 3, (0.5,) * 3, labels)
    return DataSet("noise", preprocess, split, split, split, "noise")


def floor(student: nn.Module, teacher: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> Step:
    """Return the minimum work of a step."""
    student = student.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(student, TrainingSettings())
    images, labels = batch

    def step() -> None:
        with torch.no_grad():
            teacher(images)
        loss = nn.functional.cross_entropy(student(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def compare(steps: dict[str, Step], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Return the seconds of every step, by name; each round runs each step once."""
    for step in steps.values():
        for _ in range(warmup):
            step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for order in slice_orders(tuple(steps), rounds):
        for name in order:
            start = time.perf_counter()
            steps[name]()
            taken[name].append(time.perf_counter() - start)
    return taken


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median of paired ratios."""
    source = random.Random(0)
    medians = sorted(median(source.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[draws // 40], medians[-draws // 40]


def main() -> None:
    """Print the medians, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="mobilenetv2")
    parser.add_argument("--teacher", default="resnet14x2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = random_data(options.size, options.classes, options.batch_size)
    batch = (data.preprocess.normalize(data.train.fetch(torch.arange(len(data.train)))), data.train.labels)
    spec = ModelSpec.for_images(options.student, options.classes, options.size)
    its = ModelSpec.for_images(options.teacher, options.classes, options.size)
    network = build_model(its).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    graph, _, features = training_graph(spec, find_blocks(network, options.size), BranchSettings())
    task = ImfTask(graph, Teacher(network, its, "", 0.0), features, LossSettings())
    device = choose_device("cpu")
    config = TrainingSettings(batch_size=options.batch_size, device="cpu")
    plain = build_model(spec)
    with (
        accelerator(device, config.train_precision) as prepared,
        fast_layers(graph, device),
        fast_layers(plain, device),
    ):
        training = Training(task, data, config, Parts(task, config, options.classes), device, prepared)
        graph.train()
        steps: dict[str, Step] = {
            "floor": floor(plain, network, batch),
            "IMF": lambda: training.step(*batch, 0, False) and None,
        }
        taken = compare(steps, options.rounds, warmup=3)
    ratios = [imf / least for imf, least in zip(taken["IMF"], taken["floor"], strict=True)]
    low, high = interval(ratios)
    print(f"{options.student} {options.size} px, batch {options.batch_size}, teacher {options.teacher}")
    for name, seconds in taken.items():
        print(f"  {name}: median {1000 * median(seconds):.1f} ms, least {1000 * min(seconds):.1f} ms")
    print(
        f"  IMF / floor: {median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}, {len(ratios)} rounds)"
    )


if __name__ == "__main__":
    main()
