"""Where results and messages go: closed, full and unread streams, other encodings, escapes, launchers."""

import os
import subprocess
import sys
from pathlib import Path

import preloaded
import pytest

from imf_deploy import __version__, processes
from imf_deploy.errors import UsageError

linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and descriptors are Linux's")
ESCAPES = "\x1b[2J\x9b31m\u202egnp.\u200b"


def shell(line: str, place: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``$imf`` is the command, and ``$forked`` does not start an interpreter."""
    commands = {
        "imf": f"{sys.executable} -m imf_deploy",
        "forked": f"{sys.executable} -SE {preloaded.__file__} -m imf_deploy",
    }
    environment = os.environ | commands | variables
    return subprocess.run(
        ["bash", "-c", line], cwd=place, capture_output=True, env=environment, timeout=300, check=False
    )


@linux
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$imf --version > /dev/full", 1, b"the disk is full"),
        ("$imf inspect --help > /dev/full", 1, b"the disk is full"),
        ("$imf doctor > /dev/full", 1, b"the disk is full"),
        ("$imf --version > /dev/full 2> /dev/full", 1, b""),
        ("$imf inspect nowhere 2> /dev/full", 2, b""),
        ("$imf inspect nowhere 2>&-", 2, b""),
        ("$imf --version >&-", 0, b""),
        ("$imf --version <&- >&- 2>&-", 0, b""),
        ("exec 3>&2; { trap '' PIPE; $imf doctor 2>&3; echo $? >&3; } | true", 0, b"has ended"),
    ],
)
def test_a_stream_that_takes_nothing(tmp_path: Path, line: str, code: int, said: bytes) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len([text for text in done.stderr.splitlines() if not text.isdigit()]) == bool(said)


@linux
def test_a_training_does_not_need_its_remarks(image_folder: Path, tmp_path: Path) -> None:
    command = (
        f"$forked train-teacher --data {image_folder} --teacher resnet8 --epochs 1 --device cpu --output"
    )
    for number, end in enumerate(("2> /dev/full", "2>&-", "2> >(true)")):
        done = shell(f"{command} t{number}.safetensors {end}", tmp_path)
        assert done.returncode == 0
        assert (tmp_path / f"t{number}.safetensors.json").is_file()


@linux
def test_a_closed_stream_s_number_is_no_file_of_ours(tmp_path: Path) -> None:
    """What native libraries print must not end up in the first file that is opened."""
    code = (
        "import os, sys; from imf_deploy.cli.streams import prepare_streams; prepare_streams();"
        "file = open('product', 'w'); os.write(1, b'noise'); os.write(2, b'noise'); assert file.fileno() > 2"
    )
    line = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    assert shell(line, tmp_path).returncode == 0
    assert (tmp_path / "product").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "iso8859-5"])
def test_an_encoding_that_lacks_characters(finished_run: Path, tmp_path: Path, encoding: str) -> None:
    line = f"$imf compare {finished_run} && $imf inspect {finished_run} && $imf inspect 名–é"
    done = shell(line, tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert rb"\u540d" in done.stderr
    (done.stdout + done.stderr).decode(encoding)


def test_a_locale_that_is_not_utf_8(finished_run: Path, tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(f"$imf compare {finished_run}", tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert b"->" in done.stdout  # the mark of what to deploy
    done = shell("$imf inspect é", tmp_path, **plain)
    assert done.returncode == 2
    assert b"LC_ALL=C.UTF-8" in done.stderr


@linux
def test_a_name_that_is_not_utf_8_is_refused_before_any_work(image_folder: Path, tmp_path: Path) -> None:
    for arguments in (
        rf"train-teacher --data {image_folder} --teacher resnet8 --output $'t\xff.safetensors'",
        r"inspect $'\xff'",
        r"distill --config $'\xff\xfe'",
    ):
        done = shell(f"$imf {arguments}", tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(b"error: the argument ")
        assert rb"\xff" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", ESCAPES],
        [ESCAPES],
        [f"--{ESCAPES}"],
        ["inspect", "a", ESCAPES],
        ["export", "x", "--trt", ESCAPES],
        ["distill", "--epochs", ESCAPES],
        ["distill", "--student", ESCAPES],
        ["distill", "--data", ESCAPES],
        ["doctor", "--config", ESCAPES],
        ["compare", ESCAPES],
    ],
)
def test_no_argument_steers_the_terminal(tmp_path: Path, arguments: list[str]) -> None:
    done = preloaded.run(["-m", "imf_deploy", *arguments], cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert not set("\x1b\x9b\u202e\u200b") & set(done.stdout + done.stderr)


SENSELESS = [
    ({"LOCAL_RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "-2"}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "9" * 5000}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "²"}, "WORLD_SIZE"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "RANK"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "2", "RANK": "2"}, "RANK"),
    ({"LOCAL_RANK": "", "WORLD_SIZE": "2", "RANK": "0"}, "LOCAL_RANK"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "2", "RANK": "0"}, "MASTER_PORT"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "70000"}, "MASTER_PORT"),
    ({"LOCAL_RANK": "0", "WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "1"}, "MASTER_ADDR"),
]


@pytest.mark.parametrize(("variables", "named"), SENSELESS)
def test_launcher_variables_without_sense(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name in ("LOCAL_RANK", "WORLD_SIZE", "RANK", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"^the environment variable {named} is ") as caught:
        processes.check_launcher()
    assert len(str(caught.value)) < 300


def test_the_command_names_the_variable(tmp_path: Path) -> None:
    done = shell("LOCAL_RANK=0 WORLD_SIZE= $imf doctor", tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: the environment variable WORLD_SIZE is ''")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "variables",
    [
        "LOCAL_RANK=0",
        "LOCAL_RANK= WORLD_SIZE=1",
        "LOCAL_RANK=7 WORLD_SIZE=1 RANK=x",
        "WORLD_SIZE=4 RANK=3",
        "WORLD_SIZE=x",
        "OMPI_COMM_WORLD_SIZE=4",
        "PMI_SIZE=",
    ],
)
def test_what_a_launcher_left_behind_is_ignored(image_folder: Path, tmp_path: Path, variables: str) -> None:
    """One process trains alone, and no library waits for others."""
    command = f"train-teacher --data {image_folder} --teacher resnet8 --epochs 1 --device cpu"
    line = f"{variables} $forked --version && {variables} $forked {command} --output t.safetensors"
    done = shell(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == __version__
    assert (tmp_path / "t.safetensors").is_file()
