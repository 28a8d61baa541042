"""Where a run may write, and what is left when it cannot."""

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.cli.app import options_of
from imf_deploy.cli.failures import refusal
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import atomic_path, write_json, write_problem

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]
linux = pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's own limits")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_with_other_files_is_refused_and_kept(
    here: Cli, error: Error, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "is not empty" in error(here(*quick, "--output", out), 2)
    assert "is not empty" in error(here(*quick, "--overwrite", "--output", out), 2)
    assert files(out) == {"thesis.txt"}


def test_another_run_is_refused_unless_overwritten(
    here: Cli, error: Error, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"schema": 1, "config": {"distill": {"student": "resnet18"}}}))
    (out / "distilled.safetensors").write_text("another run's")
    (out / "notes.txt").write_text("mine")
    message = error(here(*quick, "--output", out), 2)
    assert "holds another run" in message
    assert "distill.student" in message
    assert "--overwrite" in message
    assert (out / "distilled.safetensors").read_text() == "another run's"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imf_deploy.pipeline.job.obtain_teacher", stop)
    assert here(*quick, "--overwrite", "--output", out).code == 130
    assert files(out) == {"run.json", "config.yaml", "notes.txt"}
    assert json.loads((out / "run.json").read_text())["config"]["distill"]["student"] == "resnet8"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_record_of_a_run(
    here: Cli, error: Error, quick: list[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(content)
    assert "run.json" in error(here(*quick, "--output", tmp_path / "out"), 1)


def test_a_file_in_the_way(here: Cli, error: Error, quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in error(here(*quick, "--output", tmp_path / "file"), 2)
    message = error(here(*quick, "--output", tmp_path / "file" / "out"), 1)
    assert "cannot write" in message
    assert (tmp_path / "file").read_text() == "mine"


# Takes from root the right to write where nobody may: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of
# Linux's capset(2).
WITHOUT_OVERRIDE = """\
import ctypes
libc = ctypes.CDLL(None)
version, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(version, sets) == 0
sets[0], sets[1] = sets[0] & ~6, sets[1] & ~6
assert libc.capset(version, sets) == 0
"""


@linux
def test_a_folder_that_may_not_be_written(cli: Cli, error: Error, quick: list[str], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    result = cli(*quick, "--output", locked / "out", before=WITHOUT_OVERRIDE)
    locked.chmod(0o755)
    message = error(result, 1)
    assert "permission denied" in message
    assert "--output" in message
    assert files(locked) == set()


def full_after(size: int) -> str:
    """No file may grow over ``size`` bytes: writing fails like on a full disk, only with another number."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


@linux
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_disk_that_fills_up(cli: Cli, error: Error, quick: list[str], tmp_path: Path, size: int) -> None:
    # 0 stops at the first file, 100 kB at the first checkpoint.
    out = tmp_path / "out"
    result = cli(*quick, "--output", out, before=full_after(size))
    message = error(result, 1)
    assert "cannot write" in message
    assert "Traceback" not in result.err
    assert not list(out.rglob(".tmp-*"))
    left = files(out) if out.exists() else set()
    assert left == ({"run.json", "config.yaml"} if size else set())


@linux
@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ("strip RUN/distilled.safetensors --output new", 20_000),
        ("compare RUN --html new/page.html --json new/numbers.json", 1_000),
        ("verify ONNX --against PRODUCT --output new/result.json", 500),
        ("calibrate ONNX --keep-int8 --images 8 --max-accuracy-drop 100 --min-agreement 0 --output new", 0),
    ],
)
def test_a_disk_that_is_full_for_any_command(
    cli: Cli, error: Error, finished_run: Path, image_folder: Path, tmp_path: Path, arguments: str, size: int
) -> None:
    """Whatever library writes, there is one message, which names the file, and no part of it is left."""
    names = {
        "RUN": finished_run,
        "ONNX": next((finished_run / "deploy").glob("*-fp32.onnx")),
        "PRODUCT": next((finished_run / "products").glob("*.safetensors")),
    }
    words = [word.replace("RUN", str(finished_run)) for word in arguments.split()]
    result = cli(*(names.get(word, word) for word in words), before=full_after(size))
    message = error(result, 1)
    assert "cannot write " in message
    assert "the file would be too large" in message
    new = tmp_path / "cwd" / "new"
    assert not new.exists() or not files(new)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (FULL, "cannot write a file: the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "cannot write a/b: the disk is full"),
        (OSError(errno.EDQUOT, "x", "a"), "cannot write a: the disk quota is used up"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "is full",
        ),
        (ValueError("[ONNXRuntimeError] : 1 : FAIL : system error number 28: Disk quota exceeded"), "quota"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "cannot write the output: the program that reads it"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
        (PermissionError(errno.EPERM, "Operation not permitted"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_a_failed_write_is_known_from_any_exception(failure: Exception, said: str | None) -> None:
    outer = KeyError("outer")
    outer.__cause__ = failure
    for error in (failure, outer):
        found = write_problem(error)
        assert said in str(found) if said else found is None


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("distill", "Give a smaller --batch-size or --image-size, or use a machine with more memory"),
        ("study", "Give a smaller --batch-size or --image-size or --jobs, or use a machine"),
        ("bench", "Give a smaller --batch or --image-size, or use a machine"),
        ("inspect", "Use a machine with more memory"),
        ("none", "Use a machine with more memory"),
    ],
)
def test_used_up_memory_hints_at_options_of_the_command(command: str, hint: str) -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9")):
        found = refusal(error, options_of(command))
        assert found
        assert found.hint.startswith(hint)
    assert refusal(RuntimeError("a bug"), options_of(command)) is None


def test_text_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImfDeployError, match=r"'caf\\udce9' is not UTF-8 text"):
        write_json(tmp_path / "a.json", {"path": "caf\udce9"})
    assert not files(tmp_path)


def test_an_atomic_file_keeps_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_text("before")
    for failure in (FULL, RuntimeError("I/O error (os error 28)")):
        with (
            pytest.raises(ImfDeployError, match=r"cannot write .*a\.onnx: the disk is full"),
            atomic_path(path),
        ):
            raise failure
    with pytest.raises(RuntimeError, match="a bug"), atomic_path(path):
        raise RuntimeError("a bug")
    assert files(tmp_path) == {"a.onnx"}
    assert path.read_text() == "before"
