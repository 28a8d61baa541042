"""``fashion_mnist`` from files in torchvision's format, made here."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imf_deploy.data import open_data
from imf_deploy.data.named import one_channel
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import DataSettings


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, the type (8: bytes), the number of dimensions, their sizes, the data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, packed: bool, part: str, count: int) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for stem, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        content = idx(array)
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)
    return images


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_the_files_are_read(tmp_path: Path, packed: bool, place: str) -> None:
    write(tmp_path / place, packed, "train", 40)
    test = write(tmp_path / place, packed, "t10k", 20)
    data = open_data(DataSettings("fashion_mnist", str(tmp_path)))
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert np.array_equal(data.test.fetch(torch.arange(20))[:, 0].numpy(), test)
    assert data.test.labels.tolist() == [*range(10), *range(10)]
    assert data.preprocess == open_data(DataSettings()).preprocess  # so that the packaged teacher fits


@pytest.mark.parametrize("packed", [True, False])
def test_a_truncated_file_is_named(tmp_path: Path, packed: bool) -> None:
    for part in ("train", "t10k"):
        write(tmp_path, packed, part, 20)
    bad = tmp_path / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    bad.write_bytes(bad.read_bytes()[:-50])
    with pytest.raises(ImfDeployError, match=r"train-images-idx3-ubyte.* is not a complete IDX file"):
        open_data(DataSettings("fashion_mnist", str(tmp_path)))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        write(tmp_path, False, part, 20)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(ImfDeployError, match="t10k-labels-idx1-ubyte is not a complete IDX file"):
        open_data(DataSettings("fashion_mnist", str(tmp_path)))


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_a_name_needs_a_root(name: str) -> None:
    with pytest.raises(UsageError, match="needs `data_root`"):
        open_data(DataSettings(name))


def test_one_channel(tmp_path: Path) -> None:
    for part, count in (("train", 40), ("t10k", 20)):
        write(tmp_path, False, part, count)
    usual, one = (
        open_data(DataSettings("fashion_mnist", str(tmp_path), channels=channels)) for channels in (3, 1)
    )
    assert (one.preprocess.mean, one.preprocess.std) == ((0.2860,), (0.3530,))
    assert one.preprocess.shape == (1, 28, 28)
    positions = torch.arange(20)
    assert torch.equal(one.test.fetch(positions), usual.test.fetch(positions))
    assert one.fingerprint != usual.fingerprint


def test_coloured_images_become_grey_as_by_pillow() -> None:
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    classes = np.arange(20, dtype=np.uint8) % 2
    coloured = Preprocess(32, "none", 32, (0.5,) * 3, (0.2,) * 3, ("a", "b"))
    train, test, preprocess = one_channel((colours, classes), (colours[:4], classes[:4]), coloured)
    for image, own in zip(colours, train[0], strict=True):
        expected = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))
        assert np.array_equal(own[0], expected)
    assert np.array_equal(test[0], train[0][:4])
    assert preprocess.mean == pytest.approx((float((train[0] / 255).mean()),), abs=1e-4)
    assert preprocess.std == pytest.approx((float((train[0] / 255).std()),), abs=1e-4)
    assert (preprocess.color, preprocess.shape) == ("L", (1, 32, 32))
