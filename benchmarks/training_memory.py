"""Print the memory that a distillation holds after each epoch (Linux).

python benchmarks/training_memory.py --epochs 24
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from imf_deploy.data import open_data
from imf_deploy.distillation.distill import distill
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    GivenTeacher,
    MonitoringSettings,
    TrainingSettings,
)
from imf_deploy.teaching.teacher import find_teacher
from imf_deploy.training.training import Training


def resident() -> float:
    """Return the memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Distil a part of the embedded data, with all options on that keep weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="shufflenetv2")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(DataSettings())
    few = torch.arange(64)
    data = replace(
        data,
        train=data.train.subset(torch.arange(options.images)),
        validation=data.validation.subset(few),
        test=data.test.subset(few),
    )
    held: list[float] = []
    close = Training.end_epoch

    def end_epoch(self: Training) -> dict[str, float]:
        record = close(self)
        held.append(resident())
        return record

    # The loop has no hook there, because nothing else needs one.
    Training.end_epoch = end_epoch  # type: ignore[method-assign]
    config = TrainingSettings(epochs=options.epochs, device="cpu", ema=0.99, keep="best")
    with tempfile.TemporaryDirectory() as folder:
        distill(
            data,
            find_teacher(GivenTeacher(), data, "cpu"),
            DistillSettings(student=options.student, **vars(config)),
            Path(folder) / "distilled.safetensors",
            monitoring=MonitoringSettings(checkpoint_minutes=0.01),
        )
    print(", ".join(f"{mebibytes:.0f}" for mebibytes in held), "MiB after each epoch")
    print(f"first {held[0]:.0f}, most {max(held):.0f}, last {held[-1]:.0f} MiB")


if __name__ == "__main__":
    main()
