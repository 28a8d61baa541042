"""A distillation with images without labels."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import imf_deploy
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import distill
from imf_deploy.errors import UsageError
from imf_deploy.settings import DataSettings, DistillSettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training import loop

CONFIG: dict[str, Any] = {"student": "resnet8", "epochs": 2, "batch_size": 16, "lr": 0.02, "device": "cpu"}


@pytest.fixture(scope="module")
def more(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """The tiny data with half of its training images once more, without labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for path in (image_folder / "train").rglob("0?.png"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    return open_data(DataSettings(str(image_folder), unlabelled=str(folder)))


def test_it_learns_from_them(data: DataSet, more: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    config = DistillSettings(**CONFIG, refit=False)
    plain = distill(data, teacher, config, tmp_path / "a.safetensors")
    made = distill(more, teacher, config, tmp_path / "b.safetensors")
    assert (plain.unlabelled, made.unlabelled) == (0, 30)
    assert made.recipe != plain.recipe
    assert made.sha256 != plain.sha256
    assert 0 < made.history[-1]["cross_entropy"] < 2


@pytest.mark.parametrize(
    "recipe", [{"augment": "none", "refit": False}, {"mixup": 0.3, "grad_accumulation": 2}]
)
def test_an_interrupted_one_ends_the_same(
    more: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    config = DistillSettings(**CONFIG, **recipe)
    whole = distill(more, teacher, config, tmp_path / "a.safetensors")

    def stop(message: str) -> None:
        if "epoch 1 of 2" in message:
            raise KeyboardInterrupt

    path = tmp_path / "b.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "say", stop)
        distill(more, teacher, config, path)
    made = distill(more, teacher, config, path)
    assert made.sha256 == whole.sha256
    assert made.history == whole.history


def test_a_loss_without_the_teacher_is_refused(more: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    config = DistillSettings(**CONFIG, alpha=0, beta=0)
    with pytest.raises(UsageError, match="`alpha` and `beta`, which are both 0"):
        distill(more, teacher, config, tmp_path / "a.safetensors")


def test_batches_of_one_s_own_with_missing_labels(data: DataSet, teacher: Teacher) -> None:
    class Batches:
        """Batches of 12 images, half of them without a label; one batch has none at all."""

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for start in range(0, 36, 12):
                positions = torch.arange(start, start + 12)
                labels = data.train.labels[positions].clone()
                labels[:: 1 if start == 24 else 2] = -1
                yield data.preprocess.normalize(data.train.fetch(positions)), labels

    settings = DistillSettings(**CONFIG, refit=False)
    made = imf_deploy.distill(
        "resnet8", teacher.module, Batches(), settings=settings, preprocess=data.preprocess
    )
    assert all(0 < record["cross_entropy"] < 3 for record in made.artifact.history)
    with pytest.raises(UsageError, match="`balance` loss needs the number of images of each class"):
        uneven = DistillSettings(**CONFIG, balance="loss")
        imf_deploy.distill("resnet8", teacher.module, Batches(), settings=uneven, preprocess=data.preprocess)
    with pytest.raises(UsageError, match="labels from -1 to"):
        imf_deploy.distill(
            "resnet8", teacher.module, Batches(), Batches(), settings, preprocess=data.preprocess
        )
