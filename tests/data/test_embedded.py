"""The data set that comes with the package."""

import pytest
import torch

from imf_deploy.data import DataSet, open_data, reopen_data
from imf_deploy.settings import DataSettings


@pytest.fixture(scope="module")
def embedded() -> DataSet:
    return open_data(DataSettings())


def test_counts_and_preprocessing(embedded: DataSet) -> None:
    assert (len(embedded.train), len(embedded.validation), len(embedded.test)) == (9000, 1000, 2000)
    assert (embedded.preprocess.size, embedded.preprocess.color) == (28, "L")
    assert embedded.preprocess.labels[9] == "Ankle boot"
    assert embedded.preprocess.num_classes == 10
    assert embedded.test.fetch(torch.tensor([0, 5])).shape == (2, 1, 28, 28)


def test_it_takes_the_place_of_files_with_a_size_of_their_own(embedded: DataSet) -> None:
    known = {"data": "photos", "image_size": 28}
    assert reopen_data(known, embedded.config["data"]).fingerprint == embedded.fingerprint


def test_every_split_has_every_class_in_equal_numbers(embedded: DataSet) -> None:
    for split in (embedded.train, embedded.validation, embedded.test):
        assert split.labels.bincount(minlength=10).tolist() == [len(split) // 10] * 10


def test_no_test_picture_is_used_to_train_or_to_choose(embedded: DataSet) -> None:
    train, validation, test = (
        {bytes(image.numpy().tobytes()) for image in split.fetch(torch.arange(len(split)))}
        for split in (embedded.train, embedded.validation, embedded.test)
    )
    assert not test & train
    assert not test & validation
    assert len(test) == 2000


def test_training_and_validation_share_no_position(embedded: DataSet) -> None:
    train, validation = set(embedded.train.positions.tolist()), set(embedded.validation.positions.tolist())
    assert not train & validation
    assert len(train | validation) == 10_000


def test_opening_twice_gives_the_same_and_a_seed_another(embedded: DataSet) -> None:
    again, other = open_data(DataSettings()), open_data(DataSettings(split_seed=1))
    assert again.fingerprint == embedded.fingerprint
    assert torch.equal(again.validation.positions, embedded.validation.positions)
    assert other.fingerprint != embedded.fingerprint
    assert not torch.equal(other.validation.positions, embedded.validation.positions)
    assert torch.equal(other.test.positions, embedded.test.positions)


def test_no_validation_split_if_none_is_wanted() -> None:
    data = open_data(DataSettings(val_fraction=0.0))
    assert (len(data.train), len(data.validation), len(data.test)) == (10_000, 0, 2000)
