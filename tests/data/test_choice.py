from __future__ import annotations

import pytest
import torch

from imf_deploy.data import Split
from imf_deploy.data.choice import choose_images, hash_images
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.errors import UsageError


def split(counts: list[int]) -> Split:
    labels = torch.cat([torch.full((count,), index) for index, count in enumerate(counts)])
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Split.whole(MemoryImages(images, labels))


@pytest.mark.parametrize(
    ("counts", "count", "want"),
    [
        ([50, 50, 50], 30, [10, 10, 10]),
        ([50, 5, 50], 45, [20, 5, 20]),  # a small class gives all, the others the rest
        ([50, 50], 100, [50, 50]),
    ],
)
def test_classes_are_balanced(counts: list[int], count: int, want: list[int]) -> None:
    chosen = choose_images(split(counts), count, 0)
    assert chosen.labels.bincount().tolist() == want
    assert len(set(chosen.positions.tolist())) == count


def test_a_rest_is_shared_out() -> None:
    assert sorted(choose_images(split([20, 20, 20]), 11, 0).labels.bincount().tolist()) == [3, 4, 4]


def test_the_seed_decides() -> None:
    whole = split([50, 50])
    first, again, other = (choose_images(whole, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)
    assert hash_images(first) == hash_images(again) != hash_images(other)


def test_the_hash_sees_pixels_and_classes() -> None:
    whole = split([3, 3])
    assert isinstance(whole.source, MemoryImages)
    pixels, labels = whole.source.images.clone(), whole.labels.clone()
    pixels[5, 2, 1, 1] += 1
    labels[5] = 0
    hashes = {
        hash_images(whole),
        hash_images(Split.whole(MemoryImages(pixels, whole.labels))),
        hash_images(Split.whole(MemoryImages(whole.source.images, labels))),
    }
    assert len(hashes) == 3


def test_fewer_images_than_asked_for() -> None:
    with pytest.raises(UsageError, match=r"61 images were requested, but there are only 60"):
        choose_images(split([20, 20, 20]), 61, 0)
