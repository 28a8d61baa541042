"""Print the CPU time of a distillation with stored teacher outputs, divided by that of one without.

python benchmarks/teacher_reuse.py --rounds 9
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import distill
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    GivenTeacher,
    MonitoringSettings,
)
from imf_deploy.teaching.teacher import Teacher, find_teacher


def seconds(data: DataSet, teacher: Teacher, config: DistillSettings, gigabytes: float) -> float:
    """Return the CPU time of one distillation in seconds, including reading and writing."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        distill(
            data,
            teacher,
            config,
            Path(folder) / "a.safetensors",
            False,
            MonitoringSettings(checkpoint_minutes=60, teacher_outputs_gb=gigabytes),
        )
        return time.process_time() - begun


def main() -> None:
    """Distil a part of the embedded data in alternating rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default=DistillSettings.student)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=DistillSettings.epochs)
    parser.add_argument("--flip", action="store_true", help="two views of each image, not one")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(DataSettings())
    nothing = torch.arange(0)
    data = replace(
        data,
        train=data.train.subset(torch.arange(options.images)),
        validation=data.validation.subset(nothing),
    )
    teacher = find_teacher(GivenTeacher(), data, "cpu")
    config = DistillSettings(
        student=options.student, epochs=options.epochs, device="cpu", shift=0, flip=options.flip, refit=False
    )
    seconds(data, teacher, replace(config, epochs=1), 0)  # warm up
    ratios = []
    for number in range(options.rounds):
        order = (0.0, MonitoringSettings().teacher_outputs_gb)
        taken = {size: seconds(data, teacher, config, size) for size in (order, order[::-1])[number % 2]}
        ratios.append(taken[order[1]] / taken[order[0]])
        print(f"{taken[order[0]]:.1f} s without, {taken[order[1]]:.1f} s with: {ratios[-1]:.3f}", flush=True)
    print(f"median {median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
