"""Files are written completely or not at all, and replace only regular files; JSON is read within limits."""

import os
from pathlib import Path

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import read_json, write_json
from imf_deploy.untrusted import JSON_BYTES, JSON_VALUES, parse_json


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="not a regular file"):
        write_json(pipe, {"a": 1})
    assert pipe.is_fifo()
    with pytest.raises(ImfDeployError, match="not a regular file"):
        read_json(pipe)  # which would wait for a writer


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        write_json(tmp_path, {"a": 1})


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    if exists:
        target.write_text("{}")
    link.symlink_to(target)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert read_json(target) == {"a": 1}


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(link)
    with pytest.raises(UsageError, match="not a regular file"):
        write_json(link, {"a": 1})
    assert link.is_symlink()


def test_endless_files_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ImfDeployError, match="not a regular file"):
        read_json(Path("/dev/zero"))
    sparse = tmp_path / "sparse.json"
    with sparse.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(ImfDeployError, match=f"larger than {JSON_BYTES >> 20} MiB"):
        read_json(sparse)


def test_many_small_values_are_refused_before_they_take_memory() -> None:
    with pytest.raises(ImfDeployError, match="holds more than"):
        parse_json("[" + "[]," * (JSON_VALUES // 2) + "0]", "a document")


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\udfff": 1}', '["\ud800"]'])
def test_text_that_is_not_unicode_is_refused(text: str) -> None:
    with pytest.raises(ImfDeployError, match="not Unicode"):
        parse_json(text, "a document")


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json('["\\ud83d\\ude00"]', "a document") == ["\U0001f600"]
