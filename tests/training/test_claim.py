"""Whose file is it: gone on with, taken as it is, or refused."""

import os
from pathlib import Path

import pytest

from imf_deploy.artifact import claim, current_artifact, load_artifact
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import TeacherFile, sidecar_path

PREPROCESS = Preprocess(16, "none", 16, (0.5,) * 3, (0.5,) * 3, ("a", "b"))


def made(path: Path, recipe: str = "mine") -> TeacherFile:
    path.write_bytes(b"weights")
    record = TeacherFile(
        path=path, sha256=sha256_file(path), parent="", recipe=recipe, model={}, preprocess=PREPROCESS
    )
    return record.save()


def test_nothing_there(tmp_path: Path) -> None:
    assert claim(TeacherFile, tmp_path / "a", "mine", overwrite=False) is None


def unfinished(path: Path) -> Path:
    """Leave a checkpoint beside a file."""
    checkpoint = path.with_suffix(".checkpoint")
    checkpoint.write_bytes(b"")
    return checkpoint


def test_the_same_recipe_is_taken_as_it_is(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    assert claim(TeacherFile, artifact.path, "mine", overwrite=False) == artifact
    assert claim(TeacherFile, artifact.path, "mine", overwrite=True) == artifact


def test_another_recipe_is_refused_unless_overwritten(tmp_path: Path) -> None:
    path = made(tmp_path / "a").path
    with pytest.raises(UsageError, match="made with other settings"):
        claim(TeacherFile, path, "other", overwrite=False)
    with pytest.raises(UsageError):
        claim(TeacherFile, path, "other", overwrite=False, checkpoint=unfinished(path))
    assert claim(TeacherFile, path, "other", overwrite=True) is None


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a thesis")
    with pytest.raises(UsageError):
        claim(TeacherFile, path, "mine", overwrite=False)
    with pytest.raises(UsageError):
        claim(TeacherFile, path, "mine", overwrite=False, checkpoint=tmp_path / "a.checkpoint")
    # Cut off before its sidecar.
    assert claim(TeacherFile, path, "mine", overwrite=False, checkpoint=unfinished(path)) is None


def test_the_checkpoint_of_a_finished_training_goes_and_another_s_stays(tmp_path: Path) -> None:
    checkpoint = unfinished(tmp_path / "a")
    artifact = made(tmp_path / "a")
    assert claim(TeacherFile, artifact.path, "mine", overwrite=False, checkpoint=checkpoint) == artifact
    assert not checkpoint.exists()
    later = sidecar_path(artifact.path).stat().st_mtime_ns + 1_000_000_000
    os.utime(unfinished(artifact.path), ns=(later, later))
    assert claim(TeacherFile, artifact.path, "mine", overwrite=False, checkpoint=checkpoint) == artifact
    assert checkpoint.exists()


def test_a_changed_file_does_not_count_as_made(tmp_path: Path) -> None:
    path = made(tmp_path / "a").path
    assert current_artifact(path, "mine")
    path.write_bytes(b"changed")
    assert current_artifact(path, "mine") is None
    with pytest.raises(ImfDeployError, match="was changed after its sidecar was written"):
        load_artifact(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 2}', "\0"])
def test_a_damaged_sidecar(tmp_path: Path, content: str) -> None:
    path = made(tmp_path / "a").path
    sidecar_path(path).write_text(content)
    assert current_artifact(path, "mine") is None
    with pytest.raises(ImfDeployError):
        load_artifact(path)


def test_a_sidecar_moves_with_its_file(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (artifact.path, sidecar_path(artifact.path)):
        path.rename(moved / path.name)
    again = load_artifact(moved / "a")
    assert (again.sha256, again.preprocess) == (artifact.sha256, PREPROCESS)
    assert str(tmp_path) not in sidecar_path(again.path).read_text()
