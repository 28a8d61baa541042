"""The cost of reading relative to a training step: MobileNetV2 at 32 pixels, batches of 64, from 5,000 PNGs.

A batch is fetched, augmented and prepared as input, then trained on, one after the other in one process: from
memory (images decoded once), from the files each time, and from tar shards. With workers, reading files and
shards overlaps with the step, so this is the maximum cost. Sources take turns at every step, so that a busy
machine slows all alike. Opening, which hashes and decodes everything once, is also timed.

    python benchmarks/reading.py --images 5000 --rounds 40 --output runs/reading
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from imf_deploy.data import Augment, DataSet, encoded, open_data
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DataSettings

CLASSES = 10


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Write ``images/CLASS/*.png`` of smooth noise, and the same images as a shard."""
    random = np.random.default_rng(0)
    (folder / "shards").mkdir(parents=True)
    with tarfile.open(folder / "shards" / "train-0.tar", "w") as tar:
        for number in range(count):
            coarse = random.integers(0, 256, (size // 4, size // 4, 3), np.uint8)
            picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
            place = folder / "images" / f"class{number % CLASSES}" / f"{number:05}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            picture.save(place)
            for ending, content in ((".png", place.read_bytes()), (".cls", str(number % CLASSES).encode())):
                about = tarfile.TarInfo(f"{number:05}{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("runs/reading"))
    options = parser.parse_args()
    if not (options.output / "shards").is_dir():
        write_pictures(options.output, options.images, options.size)
    sources: dict[str, DataSet] = {}
    limit = encoded.MEMORY_LIMIT
    for name, folder, kept in (("memory", "images", limit), ("files", "images", 0), ("shards", "shards", 0)):
        encoded.MEMORY_LIMIT = kept
        start = time.perf_counter()
        data = open_data(DataSettings(str(options.output / folder), image_size=options.size))
        print(f"{name}: opened in {time.perf_counter() - start:.1f} s, {len(data.train)} training images")
        sources[name] = data
    model = build_model(ModelSpec.for_images("mobilenetv2", CLASSES, options.size))
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    reads: dict[str, list[float]] = {name: [] for name in sources}
    steps: dict[str, list[float]] = {name: [] for name in sources}
    generator, augment = torch.Generator().manual_seed(0), Augment()
    for turn in range(options.rounds + 3):
        for name, data in sources.items():
            start = time.perf_counter()
            positions = torch.randint(0, len(data.train), (options.batch_size,), generator=generator)
            images = data.preprocess.normalize(augment(data.train.fetch(positions), generator))
            labels = data.train.labels[positions]
            read = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if turn >= 3:  # caches have warmed up
                reads[name].append(read - start)
                steps[name].append(time.perf_counter() - read)
    print("\n| images from | reading a batch, ms | training step, ms | share of the time |")
    print("|---|---|---|---|")
    for name in sources:
        read, step = median(reads[name]), median(steps[name])
        print(f"| {name} | {1e3 * read:.1f} | {1e3 * step:.1f} | {read / (read + step):.1%} |")


if __name__ == "__main__":
    main()
