"""The main job on tiny data, as a command."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.cli import main

# Wrong before anything is trained, or quick to train.
QUICK = [
    "--teacher", "resnet14", "--teacher-epochs", "1", "--epochs", "1", "--trt", "off",
    "--products", "imf@1", "--precisions", "fp32", "--bench-seconds", "0", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="session")
def quick(image_folder: Path) -> list[str]:
    """``distill-and-export`` of a ``resnet8`` from a ``resnet14``, in seconds."""
    return ["distill-and-export", "--data", str(image_folder), "--student", "resnet8", *QUICK]


def one_error(result: Any, code: int) -> str:
    """Return the message of a command that failed with one line, and nothing else."""
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    errors = [line for line in result.lines if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    assert result.lines[-1] == errors[0]
    return errors[0]


@pytest.fixture(scope="session")
def error() -> Callable[[Any, int], str]:
    """The function that takes a failed result apart."""
    return one_error


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of standard error."""
        return self.err.splitlines()


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Run a command in this process, by the real entry point: a new one takes seconds to import torch."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["imf-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, before)
