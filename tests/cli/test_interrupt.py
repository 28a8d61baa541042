"""Ctrl-C at any moment: finished files stay, and the same command resumes."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preloaded
import pytest

Cli = Callable[..., Any]
SAID = "error: interrupted. Finished files are kept, and the same command resumes an unfinished training."


def interrupted(arguments: list[str], line: str, place: Path, sign: int) -> tuple[int, list[str]]:
    """Run a command, signal it when it prints ``line``; return its exit code and its lines."""
    # Whoever runs the tests in the background ignores Ctrl-C, and so would the child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = preloaded.start(["-m", "imf_deploy", *arguments], cwd=place, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = []
    for text in process.stderr:
        said.append(text.rstrip("\n"))
        if line in text:
            process.send_signal(sign)
            break
    said += process.stderr.read().splitlines()
    return process.wait(120), said


def test_in_the_middle_of_a_training(cli: Cli, image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "teacher.safetensors"
    command = ["train-teacher", "--data", str(image_folder), "--teacher", "resnet8",
               "--epochs", "12", "--device", "cpu", "--output", str(path)]  # fmt: skip
    code, said = interrupted(command, "epoch 3 of 12", tmp_path, signal.SIGINT)
    assert code == 130
    assert said[-1] == SAID
    assert "Traceback" not in "\n".join(said)
    assert [p.name for p in path.parent.iterdir()] == ["teacher.checkpoint"]
    result = cli(*command)
    assert result.code == 0, result.err
    assert "resuming after epoch" in result.err
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "teacher.config.yaml",
        "teacher.safetensors",
        "teacher.safetensors.json",
    ]


@pytest.mark.parametrize(
    "stage", ["obtain_teacher", "distill", "strip", "_make_files", "measure_products", "write_report"]
)
def test_the_main_job_in_any_stage(
    here: Cli, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"imf_deploy.pipeline.job.{stage}", stop)
    result = here(*quick, "--output", tmp_path / "out")
    assert result.code == 130
    assert result.lines[-1] == SAID
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_polite_kill_ends_like_an_interrupt(image_folder: Path, tmp_path: Path) -> None:
    command = ["train-teacher", "--data", str(image_folder), "--teacher", "resnet8",
               "--epochs", "50", "--device", "cpu"]  # fmt: skip
    code, said = interrupted(command, "epoch 1 of 50", tmp_path, signal.SIGTERM)
    assert (code, said[-1]) == (130, SAID)
    assert not list(tmp_path.glob(".tmp-*"))
