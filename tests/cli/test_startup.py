"""Help and usage errors, fast and without anything heavy."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest

from imf_deploy import __version__
from imf_deploy.cli.app import COMMANDS

Cli = Callable[..., Any]


def test_help_lists_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    assert all(command in result.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "Usage:" in result.out
    golden.check(f"help/{command}.txt", result.out)


def test_version(cli: Cli) -> None:
    assert cli("--version").out.strip() == __version__


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = [
        "torch",
        "torchvision",
        "onnx",
        "onnxruntime",
        "matplotlib",
        "numpy",
        "PIL",
        "tensorrt_rtx",
        "torchao",
    ]
    code = f"import imf_deploy.cli.app, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_comparison_reads_reports_alone(finished_run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from imf_deploy.cli import main; import atexit;"
        "atexit.register(lambda: print([m for m in ('torch', 'onnx', 'matplotlib') if m in sys.modules]));"
        f"sys.argv[1:] = ['compare', {str(finished_run)!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


WITHOUT_PYTORCH = """
import sys
from imf_deploy.cli import main

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "torchao", "accelerate"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

sys.meta_path.insert(0, Missing())
for words in sys.stdin.read().splitlines():
    sys.argv[1:] = words.split("\\t")
    print("==", sys.argv[1], flush=True)
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code, flush=True)
"""


def test_finished_files_need_no_pytorch(finished_run: Path, image_folder: Path, tmp_path: Path) -> None:
    """Where PyTorch is missing, what reads, runs and measures ONNX files works, and the rest says why."""
    (file,) = map(str, finished_run.glob("deploy/*-fp32.onnx"))
    image = str(image_folder / "val" / "class0" / "00.png")
    works = [
        ["inspect", file], ["inspect", str(finished_run)], ["predict", file, image],
        ["compare", str(finished_run)], ["doctor"],
        ["bench", file, "--duration", "0.01", "--warmup", "0", "--loads", "1", "--no-startup"],
    ]  # fmt: skip
    fails = [["strip", str(finished_run / "distilled.safetensors")], ["evaluate", file]]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTORCH],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        input="\n".join("\t".join(words) for words in works + fails),
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit code")]
    assert codes[: len(works)] == ["exit code 0"] * len(works), done.stdout + done.stderr
    assert codes[len(works) :] == ["exit code 1"] * len(fails)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(fails)
    assert all("needs the Python package torch, which is not installed" in line for line in errors)
    assert "Traceback" not in done.stderr


def test_the_api_does_not_import_the_command_line(tmp_path: Path) -> None:
    code = (
        "import imf_deploy.pipeline.job, imf_deploy.study.stage, sys; print('imf_deploy.cli' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "arguments",
    [
        ["distil"],
        ["--nope"],
        ["distill", "--nope"],
        ["distill", "--epochs", "many"],
        ["distill", "--epochs"],
        ["strip"],
        ["verify", "a.onnx"],
        ["export", "x", "--trt", "cuda"],
    ],
)
def test_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert len(result.lines) == 1
    assert "--help" in result.err
    assert "Traceback" not in result.err


def test_no_command_shows_the_help(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert "distill-and-export" in result.out + result.err
