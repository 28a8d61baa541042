"""Augmentation to the pixel, and an order that a seed decides."""

import numpy as np
import torch

from imf_deploy.data import Augment, DataSet, eval_batches, train_batches
from imf_deploy.data.batches import train_batch_count


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
    assert train_batch_count(data.train, 8) == 5
    few = list(train_batches(data.train, data.preprocess, 64, Augment(), 0, 0))
    assert [len(labels) for _, labels in few] == [42]
    assert train_batch_count(data.train, 64) == 1


def test_evaluation_sees_everything_in_order(data: DataSet) -> None:
    batches = list(eval_batches(data.test, data.preprocess, 7))
    assert [len(labels) for _, labels in batches] == [7, 7, 4]
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.test.labels)
    whole = data.preprocess.normalize(data.test.fetch(torch.arange(18)))
    assert torch.equal(torch.cat([images for images, _ in batches]), whole)
