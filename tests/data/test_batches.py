"""Augmentation to the pixel, and an order that a seed decides."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imf_deploy.data import Augment, DataSet, eval_batches, open_data, train_batches
from imf_deploy.data.batches import Part, TrainLoader
from imf_deploy.data.dataset import EncodedImages, Split
from imf_deploy.data.pictures import FilePictures
from imf_deploy.settings import DataSettings


def pictures(count: int = 64) -> torch.Tensor:
    """Pictures whose pixels are all different within each, and never 0."""
    single = torch.arange(1, 1 + 2 * 5 * 5, dtype=torch.uint8).view(1, 2, 5, 5)
    return single.repeat(count, 1, 1, 1)


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shift with black coming in, by plain loops over slices."""
    result = np.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            y, x = row - down, column - right
            if 0 <= y < height and 0 <= x < width:
                result[:, row, column] = image[:, y, x]
    return result


def test_no_change() -> None:
    images = pictures(4)
    assert torch.equal(Augment(0, flip=False)(images, torch.Generator()), images)


def test_a_shift_is_one_of_all_possible_and_exact() -> None:
    images = pictures()
    changed = Augment(1, flip=False)(images, torch.Generator().manual_seed(0)).numpy()
    possible = {
        (dy, dx): moved(images[0].numpy(), dy, dx).tobytes() for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    }
    seen = [next(key for key, value in possible.items() if value == image.tobytes()) for image in changed]
    assert set(seen) == set(possible)


def test_about_half_are_mirrored_exactly() -> None:
    images = pictures()
    changed = Augment(0, flip=True)(images, torch.Generator().manual_seed(0))
    mirrored = [bool((image == images[0].flip(-1)).all()) for image in changed]
    kept = [bool((image == images[0]).all()) for image in changed]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize(("augment", "views"), [
    (Augment(0, flip=False), 1), (Augment(0), 2), (Augment(1, flip=False), 9), (Augment(1), 18),
    (Augment((0, 2), flip=False), 5), (Augment((1, 2)), 30),
])  # fmt: skip
def test_a_view_has_a_number_of_its_own(data: DataSet, augment: Augment, views: int) -> None:
    assert augment.views == views
    loader = TrainLoader(data.train, data.preprocess, 21, augment, 0)
    known: dict[int, bytes] = {}
    for epoch in range(30):
        for images, _, numbers in loader.viewed_epoch(epoch):
            assert numbers is not None
            for image, number in zip(images, numbers.tolist(), strict=True):
                pixels = image.numpy().tobytes()
                assert known.setdefault(number, pixels) == pixels
    assert len(set(known.values())) == len(known)  # noise makes all of them different
    assert {number // views for number in known} == set(range(len(data.train)))
    assert len(known) == 42 * views if views < 3 else len(known) > 42 * views / 2


def test_views_of_crops_are_not_counted(data: DataSet) -> None:
    augment = Augment(0, crop=True)
    assert augment.views is None
    loader = TrainLoader(data.train, data.preprocess, 21, augment, 0)
    assert all(views is None for _, _, views in loader.viewed_epoch(0))


def test_type_and_input_stay() -> None:
    images = pictures()
    changed = Augment()(images, torch.Generator().manual_seed(0))
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    assert torch.equal(images, pictures())


def test_an_epoch_follows_from_seed_and_number(data: DataSet) -> None:
    def epoch(seed: int, number: int) -> list[torch.Tensor]:
        batches = train_batches(data.train, data.preprocess, 8, Augment(1), seed, number)
        return [part for batch in batches for part in batch]

    first, again = epoch(0, 3), epoch(0, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch(1, 3), epoch(0, 4)):
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_leaves_out_the_last_batch_that_is_not_full(data: DataSet) -> None:
    batches = list(train_batches(data.train, data.preprocess, 8, Augment(), 0, 0))
    assert [len(labels) for _, labels in batches] == [8] * 5  # of 42
    assert len(TrainLoader(data.train, data.preprocess, 8, Augment(), 0)) == 5
    few = list(train_batches(data.train, data.preprocess, 64, Augment(), 0, 0))
    assert [len(labels) for _, labels in few] == [42]
    assert len(TrainLoader(data.train, data.preprocess, 64, Augment(), 0)) == 1


@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_every_batch_without_gaps_or_repeats(
    data: DataSet, batch_size: int, size: int
) -> None:
    whole = list(train_batches(data.train, data.preprocess, batch_size, Augment(2), 1, 4))
    loaders = [
        TrainLoader(data.train, data.preprocess, batch_size, Augment(2), 1, Part(rank, size))
        for rank in range(size)
    ]
    for (images, labels), *parts in zip(whole, *(loader.epoch(4) for loader in loaders), strict=True):
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        counts = [len(part[1]) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_the_picture_before_leads_a_part(data: DataSet) -> None:
    ((images, labels),) = train_batches(data.train, data.preprocess, 42, Augment(2), 1, 4)
    for rank in range(2):
        part = Part(rank, 2, leader=True)
        ((mine, classes),) = TrainLoader(data.train, data.preprocess, 42, Augment(2), 1, part).epoch(4)
        members = torch.arange(21 * rank - 1, 21 * rank + 21) % 42
        assert torch.equal(mine, images[members])
        assert torch.equal(classes, labels[members])


def test_an_epoch_can_be_entered_anywhere(data: DataSet) -> None:
    loader = TrainLoader(data.train, data.preprocess, 8, Augment(2), 1)
    whole = list(loader.epoch(3))
    for first in range(6):
        rest = list(loader.epoch(3, first))
        assert len(rest) == 5 - first
        assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, whole[first:], strict=True))


def test_workers_fetch_the_same_and_live_on(make_images: Callable[..., Path], tmp_path: Path) -> None:
    opened = open_data(DataSettings(str(make_images(tmp_path / "few", {"train": 6, "val": 2}))))
    paths = tuple(sorted((tmp_path / "few" / "train").rglob("*.png")))
    pictures = FilePictures(tmp_path, paths)
    source = EncodedImages(pictures, torch.arange(len(paths)), opened.preprocess, workers=1)
    split = Split.whole(source)
    loader = TrainLoader(split, opened.preprocess, 4, Augment(1), 0)
    alone = TrainLoader(
        replace(split, source=replace(source, workers=0)), opened.preprocess, 4, Augment(1), 0
    )
    seen = []
    for epoch in range(2):
        for (images, labels), (same, classes) in zip(loader.epoch(epoch), alone.epoch(epoch), strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, classes)
        seen.append({child.pid for child in multiprocessing.active_children()})
    assert seen[0] == seen[1] != set()


def test_evaluation_between_epochs_needs_no_workers_of_its_own(
    make_images: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_images(tmp_path / "few", {"train": 6, "val": 2})
    opened = open_data(DataSettings(str(folder)))
    splits = []
    for part in ("train", "val"):
        paths = tuple(sorted((folder / part).rglob("*.png")))
        pictures = FilePictures(tmp_path, paths)
        source = EncodedImages(pictures, torch.arange(len(paths)), opened.preprocess, workers=1)
        splits.append(Split.whole(source))
    train, held = splits
    before = {child.pid for child in multiprocessing.active_children()}
    loader = TrainLoader(train, opened.preprocess, 4, Augment(1), 0, held_out=held)
    alone = TrainLoader(train, opened.preprocess, 4, Augment(1), 0)
    workers = []
    for epoch in range(2):
        for (images, labels), (same, classes) in zip(loader.epoch(epoch), alone.epoch(epoch), strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, classes)
        images, labels = map(torch.cat, zip(*loader.evaluation(), strict=True))
        assert torch.equal(labels, held.labels)
        assert torch.equal(images, opened.preprocess.normalize(held.fetch(torch.arange(len(held)))))
        workers.append({child.pid for child in multiprocessing.active_children()} - before)
    assert workers[0] == workers[1]
    assert len(workers[0]) == 2  # one for each loader
    del loader, alone
    assert {child.pid for child in multiprocessing.active_children()} == before


def test_evaluation_sees_everything_in_order(data: DataSet) -> None:
    batches = list(eval_batches(data.test, data.preprocess, 7))
    assert [len(labels) for _, labels in batches] == [7, 7, 4]
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.test.labels)
    whole = data.preprocess.normalize(data.test.fetch(torch.arange(18)))
    assert torch.equal(torch.cat([images for images, _ in batches]), whole)
