"""Generate folders of JPEGs that take as long to read as photographs."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


def write_jpeg(path: Path, seed: int) -> None:
    """Write an image of 500 x 375 pixels that takes about as many bytes as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=88)


def jpegs(folder: Path, count: int, classes: int = 10) -> None:
    """Write a folder of JPEGs, on all processors."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        for split, images in (("train", count), ("test", classes)):
            for label in range(classes):
                (folder / split / f"class{label}").mkdir(parents=True)
            paths = [folder / split / f"class{i % classes}" / f"{i:06}.jpg" for i in range(images)]
            list(pool.map(write_jpeg, paths, range(images), chunksize=32))
