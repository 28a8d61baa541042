"""The time and memory until a training on a big folder of JPEGs takes its first step.

A fresh process opens the folder as every command does (it decodes and hashes every image), starts the loader
of a training, and trains MobileNetV2 on one batch. Then it reads more batches. The table has seconds on the
clock, processor seconds of all processes that have ended, and the largest resident memory of a process.

    python benchmarks/big_folder.py --images 10000 --size 224 --output runs/big-folder
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import torch
from photographs import jpegs

from imf_deploy.data import Augment, open_data
from imf_deploy.data.batches import TrainLoader
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DataSettings

CLASSES = 10
_start = time.perf_counter()


def row(what: str) -> None:
    """Print what was reached, and at what cost since the start of the process."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    largest = max(own.ru_maxrss, ended.ru_maxrss) >> 10
    print(f"| {what} | {time.perf_counter() - _start:.1f} | {processor:.1f} | {largest} |", flush=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=50, help="batches to read after the first step")
    parser.add_argument("--output", type=Path, default=Path("runs/big-folder"))
    options = parser.parse_args()
    if not options.output.is_dir():
        jpegs(options.output, options.images, CLASSES, (options.size, options.size))
    print(f"load before: {os.getloadavg()[0]:.1f}\n")
    print("| reached | seconds | processor seconds | memory, MiB |")
    print("|---|---|---|---|")
    row("imports")
    data = open_data(DataSettings(str(options.output)))
    row("opened")
    loader = TrainLoader(data.train, data.preprocess, options.batch_size, Augment(), 0)
    batches = loader.epoch(0)
    images, labels = next(batches)
    row("first batch")
    model = build_model(ModelSpec.for_images("mobilenetv2", CLASSES, data.preprocess.size))
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    row("first step")
    for _ in range(options.batches):
        next(batches)
    del batches, loader  # ends the workers
    row(f"{options.batches} batches")


if __name__ == "__main__":
    main()
