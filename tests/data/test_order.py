"""The order of the images of an epoch: balanced classes, and images without labels."""

import pytest
import torch

from imf_deploy.data import Augment, DataSet
from imf_deploy.data.batches import TrainLoader
from imf_deploy.data.order import EpochOrder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(40, 60), (7, 200), (100, 3), (0, 30)])
def test_every_batch_has_its_share_of_labelled_images(labelled: int, unlabelled: int) -> None:
    labels = torch.tensor([1] * labelled + [-1] * unlabelled)
    order = EpochOrder(labels, 16)
    first, second = (order.draw(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(first, order.draw(torch.Generator().manual_seed(0)))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(len(labels)))
    counts = [int((labels[batch] >= 0).sum()) for batch in torch.split(first, 16) if len(batch) == 16]
    assert max(counts) - min(counts) <= 1


def test_an_epoch_with_labels_alone_is_a_permutation() -> None:
    order = EpochOrder(torch.arange(50) % 3, 16)
    drawn = order.draw(torch.Generator().manual_seed(5))
    assert torch.equal(drawn, torch.randperm(50, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("counts", [(3, 30, 300), (1, 1, 1), (50, 2), (7, 7, 7, 8)])
def test_balanced_classes(counts: tuple[int, ...]) -> None:
    labels = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    order = EpochOrder(labels, 16, balanced=True)
    drawn = order.draw(seeded())
    assert len(drawn) == len(labels)
    assert torch.equal(drawn, order.draw(seeded()))
    if len(labels) > 3:
        assert not torch.equal(drawn, order.draw(seeded(1)))
    each = labels[drawn].bincount(minlength=len(counts))
    assert each.max() - each.min() <= 1
    times = drawn.bincount(minlength=len(labels))
    for number in range(len(counts)):
        its = times[labels == number]
        assert its.max() - its.min() <= 1
    # The remaining draws of an epoch are not always those of the same classes.
    totals = torch.stack([labels[order.draw(seeded(s))].bincount(minlength=len(counts)) for s in range(50)])
    assert totals.sum(0).max() - totals.sum(0).min() <= 40


def test_balanced_classes_and_missing_labels() -> None:
    labels = torch.tensor([0] * 40 + [1] * 4 + [-1] * 56)
    drawn = EpochOrder(labels, 10, balanced=True).draw(seeded())
    assert (labels[drawn] == 0).sum() == (labels[drawn] == 1).sum() == 22
    assert torch.equal(drawn[labels[drawn] < 0].sort().values, torch.arange(44, 100))
    counts = [int((labels[batch] >= 0).sum()) for batch in torch.split(drawn, 10)]
    assert set(counts) <= {4, 5}


def test_an_image_that_is_drawn_again_is_cropped_differently(data: DataSet) -> None:
    labels = data.train.labels
    split = data.train.subset(torch.cat([(labels == 0).nonzero()[:1, 0], (labels == 1).nonzero()[:, 0]]))
    loader = TrainLoader(split, data.preprocess, 5, Augment(0, False, True), seed=0, balanced=True)
    rare = torch.cat([images[labels == 0] for images, labels in loader.epoch(0)])
    assert len(rare) >= 6
    assert len({image.numpy().tobytes() for image in rare}) == len(rare)
