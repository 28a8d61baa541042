"""The numbers of images of each class, and what is said about classes with few."""

import torch

from imf_deploy.data import DataSet
from imf_deploy.data.counts import class_counts, scarcity_notes
from imf_deploy.data.dataset import MemoryImages, Split
from imf_deploy.preprocess import Preprocess

LABELS = ("cat", "dog", "eel")


def uneven(train: list[int], test: list[int]) -> DataSet:
    """Return data with a number of images of each class."""

    def split(counts: list[int]) -> Split:
        labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        return Split.whole(MemoryImages(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), labels))

    preprocess = Preprocess(8, "none", 8, (0.5,) * 3, (0.2,) * 3, LABELS)
    return DataSet("d", preprocess, split(train), split([2, 2, 2]), split(test), "")


def test_every_split_is_counted() -> None:
    rows = class_counts(uneven([30, 10, 20], [11, 12, 0]))
    assert [(row.label, row.train, row.validation, row.test) for row in rows] == [
        ("cat", 30, 2, 11),
        ("dog", 10, 2, 12),
        ("eel", 20, 2, 0),
    ]


def test_enough_images_need_no_note() -> None:
    assert scarcity_notes(uneven([40, 10, 20], [10, 12, 50])) == ()


def test_classes_with_few_images() -> None:
    assert scarcity_notes(uneven([50, 10, 20], [10, 12, 50])) == (
        "Class 'dog' has 10 training image(s) and 'cat' 50: --balance raises rare classes",
    )
    assert scarcity_notes(uneven([9, 12, 20], [10, 12, 50])) == ("Class 'cat' has only 9 training image(s)",)
    assert scarcity_notes(uneven([20, 12, 20], [7, 3, 50])) == (
        "2 of 3 classes have fewer than 10 test images, 'dog' only 3: "
        "accuracies of single classes say little",
    )
    assert scarcity_notes(uneven([20, 12, 20], [0, 30, 50])) == (
        "No test image shows 'cat': nothing is measured for it",
    )
