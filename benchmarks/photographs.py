"""Generate folders of JPEGs that take as long to read as photographs."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO = (500, 375)


def write_jpeg(path: Path, seed: int, size: tuple[int, int] = PHOTO) -> None:
    """Write an image that takes about as many bytes as a photograph of that width and height, in pixels."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=88)


def jpegs(folder: Path, count: int, classes: int = 10, size: tuple[int, int] = PHOTO) -> None:
    """Write a folder of JPEGs, on all processors."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        for split, first, images in (("train", 0, count), ("test", count, classes)):
            for label in range(classes):
                (folder / split / f"class{label}").mkdir(parents=True)
            paths = [folder / split / f"class{i % classes}" / f"{i:06}.jpg" for i in range(images)]
            list(pool.map(write_jpeg, paths, range(first, first + images), [size] * images, chunksize=32))
