"""Images without labels: which are used, in which order, and what is said about them."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from imf_deploy.data import Augment, DataSet, open_data, reopen_data, unlabelled
from imf_deploy.data.batches import TrainLoader
from imf_deploy.data.crops import random_crops
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.data.unlabelled import identity_of, with_unlabelled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings


@pytest.fixture
def extra(image_folder: Path, tmp_path: Path) -> Path:
    """``extra/0.png`` … and ``extra/inner/9.png`` …: eighteen images, of which the test split has none."""
    folder = tmp_path / "extra"
    (folder / "inner").mkdir(parents=True)
    for number, path in enumerate(sorted((image_folder / "train").rglob("1?.png"))):
        shutil.copy(path, (folder / "inner" if number > 8 else folder) / f"{number}.png")
    return folder


def opened(image_folder: Path, extra: Path) -> DataSet:
    return open_data(DataSettings(str(image_folder), unlabelled=str(extra)))


def test_they_are_beside_the_splits(data: DataSet, image_folder: Path, extra: Path) -> None:
    found = opened(image_folder, extra)
    assert found.unlabelled is not None
    assert found.unlabelled.labels.tolist() == [-1] * 18
    assert found.fingerprint == data.fingerprint
    assert [len(part) for part in (found.train, found.validation, found.test)] == [42, 6, 18]
    assert f"18 images of {extra} are used without labels" in " ".join(found.notes)
    again = reopen_data(found.config)
    assert again.unlabelled is None
    assert again.fingerprint == found.fingerprint


def test_their_identity_is_that_of_their_bytes(image_folder: Path, extra: Path, tmp_path: Path) -> None:
    first = opened(image_folder, extra).unlabelled
    moved = opened(image_folder, extra.rename(tmp_path / "moved")).unlabelled
    (tmp_path / "moved" / "0.png").unlink()
    fewer = opened(image_folder, tmp_path / "moved").unlabelled
    assert first
    assert moved
    assert fewer
    assert identity_of(first) == identity_of(moved) != identity_of(fewer)


def test_copies_of_held_out_images_are_reported(image_folder: Path, extra: Path) -> None:
    shutil.copy(image_folder / "val" / "class0" / "00.png", extra)
    notes = " ".join(opened(image_folder, extra).notes)
    assert "1 of 18 test images are copies of unlabelled images" in notes
    assert "accuracy on them says nothing about new images" in notes


def test_folders_that_cannot_be_used(image_folder: Path, extra: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        opened(image_folder, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a folder"):
        opened(image_folder, extra / "0.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ImfDeployError, match="holds no images"):
        opened(image_folder, tmp_path / "empty")
    (extra / "5.png").write_bytes(b"no image")
    with pytest.raises(ImfDeployError, match=r"5\.png"):
        opened(image_folder, extra)


def test_grey_images_beside_those_of_the_embedded_data(tmp_path: Path) -> None:
    embedded = open_data(DataSettings())
    picture = embedded.test.fetch(torch.tensor([7]))[0]
    Image.fromarray(picture[0].numpy()).save(tmp_path / "a.png")
    joined = with_unlabelled(open_data(DataSettings(unlabelled=str(tmp_path)))).train
    assert torch.equal(joined.fetch(torch.tensor([len(embedded.train)]))[0], picture)


def test_images_of_another_size_than_those_of_a_named_data_set(extra: Path) -> None:
    with pytest.raises(ImfDeployError, match=r"0\.png .*16x16 pixels, not 28x28"):
        open_data(DataSettings(unlabelled=str(extra)))


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_joined_images_are_those_of_both(
    image_folder: Path, extra: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(unlabelled, "MEMORY_LIMIT", room)
    found = opened(image_folder, extra)
    assert found.unlabelled
    joined = with_unlabelled(found).train
    assert isinstance(joined.source, MemoryImages) == (room > 0)
    positions = torch.tensor([59, 3, 42, 41, 3])
    crops = random_crops(positions.tolist(), 7)
    for chosen in (None, crops):
        images = joined.fetch(positions, chosen)
        for index, position in enumerate(positions.tolist()):
            split, start = (found.train, 0) if position < 42 else (found.unlabelled, 42)
            own = split.fetch(torch.tensor([position - start]), chosen and [chosen[index]])
            assert torch.equal(images[index], own[0])
    assert joined.marks is not None
    assert len(joined.marks) == len(joined) == 60


def test_batches_of_the_loader(image_folder: Path, extra: Path) -> None:
    found = with_unlabelled(opened(image_folder, extra))
    loader = TrainLoader(found.train, found.preprocess, 20, Augment(), seed=0)
    batches = list(loader.epoch(0))
    assert [int((labels < 0).sum()) for _, labels in batches] == [6, 6, 6]
    again = list(loader.epoch(0, first=2))
    assert len(again) == 1
    assert torch.equal(again[0][0], batches[2][0])
    assert torch.equal(again[0][1], batches[2][1])
