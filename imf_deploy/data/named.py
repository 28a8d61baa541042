"""The embedded subset of Fashion-MNIST, and torchvision's data sets by name."""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imf_deploy.data.dataset import DataSet, MemoryImages, Split
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.untrusted import shorten

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Images ``uint8 [N, C, H, W]`` and classes ``uint8 [N]``."""
Channels = tuple[float, float, float]
Reader = Callable[[Path, bool], tuple[Arrays, Arrays, Preprocess]]
"""The folder of a data set, and whether it is downloaded if it is missing -> training and test images."""

_FASHION_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# The training images take 47 MB.
_LARGEST_IDX = 64 << 20
# Mean and standard deviation over the 60,000 training images.
_FASHION = Preprocess(28, "none", 28, (0.2860,) * 3, (0.3530,) * 3, _FASHION_LABELS, "L")


def _embedded() -> tuple[Arrays, Arrays, Preprocess]:
    file = resources.files("imf_deploy") / "assets" / "fashion_mnist_subset.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        train = arrays["train_images"][:, None], arrays["train_labels"].astype(np.uint8)
        test = arrays["test_images"][:, None], arrays["test_labels"].astype(np.uint8)
    return train, test, _FASHION


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes (the format of MNIST), compressed or not."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_LARGEST_IDX + 1)
        if len(content) > _LARGEST_IDX:
            raise ValueError(f"it has more than {_LARGEST_IDX >> 20} MiB")
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ImfDeployError(f"{path} is not a complete IDX file ({error})", "Download it again") from error


def _fashion_mnist(root: Path, download: bool) -> tuple[Arrays, Arrays, Preprocess]:
    folders = (root, root / "FashionMNIST" / "raw")

    def find(stem: str) -> Path | None:
        return next(
            (f / (stem + end) for f in folders for end in (".gz", "") if (f / (stem + end)).is_file()), None
        )

    def pair(part: str) -> Arrays | None:
        images, labels = find(f"{part}-images-idx3-ubyte"), find(f"{part}-labels-idx1-ubyte")
        return (_read_idx(images)[:, None], _read_idx(labels)) if images and labels else None

    train, test = pair("train"), pair("t10k")
    if train is None or test is None:
        import torchvision

        for is_train in (True, False):
            torchvision.datasets.FashionMNIST(str(root), train=is_train, download=download)
        train, test = pair("train"), pair("t10k")
        if train is None or test is None:
            raise ImfDeployError(f"the files of Fashion-MNIST are not in {root}", "Check `data_root`")
    return train, test, _FASHION


def _cifar(name: str, mean: Channels, std: Channels) -> Reader:
    def read(root: Path, download: bool) -> tuple[Arrays, Arrays, Preprocess]:
        import torchvision

        dataset = getattr(torchvision.datasets, name)
        train, test = (dataset(str(root), train=is_train, download=download) for is_train in (True, False))
        arrays = [(p.data.transpose(0, 3, 1, 2), np.array(p.targets, np.uint8)) for p in (train, test)]
        return arrays[0], arrays[1], Preprocess(32, "none", 32, mean, std, tuple(train.classes))

    return read


def one_channel(train: Arrays, test: Arrays, preprocess: Preprocess) -> tuple[Arrays, Arrays, Preprocess]:
    """Return grey images, and their preprocessing with the statistics of one channel."""
    if preprocess.color == "L":
        return train, test, replace(preprocess, mean=preprocess.mean[:1], std=preprocess.std[:1])
    grey = [(_grey(images), classes) for images, classes in (train, test)]
    values = grey[0][0] / np.float32(255)
    mean, std = (round(float(value), 4) for value in (values.mean(), values.std()))
    return grey[0], grey[1], replace(preprocess, mean=(mean,), std=(std,), color="L")


def _grey(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the luminance of ``uint8 [N, 3, H, W]`` as Pillow rounds it, ``uint8 [N, 1, H, W]``."""
    wide = images.astype(np.uint32)
    light = (wide[:, 0] * 19595 + wide[:, 1] * 38470 + wide[:, 2] * 7471 + 0x8000) >> 16
    return light[:, None].astype(np.uint8)


NAMED: dict[str, tuple[Reader, str]] = {
    "fashion_mnist": (_fashion_mnist, "30 MB"),
    "cifar10": (_cifar("CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)), "170 MB"),
    "cifar100": (_cifar("CIFAR100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)), "170 MB"),
}
"""torchvision's data sets that ``data`` opens by name: how each is read, and the size of its download."""


def open_named(name: str, root: str, download: bool = True, channels: int = 3) -> DataSet:
    """Open the embedded data set or one of :data:`NAMED`; the validation split is left empty.

    Args:
        name: Name of the data set.
        root: Folder of a named data set.
        download: Whether a missing data set is downloaded into ``root``.
        channels: Number of channels of the network's input. With one, images become grey.

    Raises:
        UsageError: a named data set without ``data_root``.
        ImfDeployError: it is not in ``root`` and cannot be downloaded.
    """
    if name in NAMED:
        reader, megabytes = NAMED[name]
        if not root:
            raise UsageError(
                f"`data` {name} needs `data_root`",
                f"Name the folder that holds it, or a folder to download it to ({megabytes})",
            )
        try:
            train, test, preprocess = reader(Path(root), download)
        except (OSError, RuntimeError) as error:
            raise ImfDeployError(
                f"{name} is not in {root}"
                + (f" and cannot be downloaded there ({shorten(str(error))})" if download else ""),
                "Put torchvision's files of the data set into the folder"
                + (", or leave out `data`" if download else f", or use `data` {name} to download them"),
            ) from error
    else:
        train, test, preprocess = _embedded()
    if channels == 1:
        train, test, preprocess = one_channel(train, test, preprocess)
    digest = hashlib.sha256()
    for array in (*train, *test):
        digest.update(array.tobytes())
    splits = [
        Split.whole(
            MemoryImages(torch.from_numpy(np.array(images)), torch.from_numpy(classes.astype(np.int64)))
        )
        for images, classes in (train, test)
    ]
    empty = splits[0].subset(torch.arange(0))
    return DataSet(name, preprocess, splits[0], empty, splits[1], digest.hexdigest())
