"""``imf-deploy compare`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.data import DataConfig
from imf_deploy.pipeline import RunConfig, distill_and_export
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.distill import DistillConfig

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]
TINY = TrainConfig(epochs=1, batch_size=8, lr=0.02, device="cpu")


@pytest.fixture(scope="module")
def run(image_folder: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job on tiny data."""
    config = RunConfig(
        data=DataConfig(str(image_folder)),
        teacher_weights=str(teacher_file),
        distill=DistillConfig("resnet8", train=TINY),
        products="plain,imf@1",
        precisions="fp32",
        trt="off",
    )
    folder = tmp_path_factory.mktemp("runs") / "first"
    distill_and_export(config, folder, "imf-deploy distill-and-export", bench_seconds=0)
    return folder


def test_one_run_in_every_form(here: Cli, run: Path, tmp_path: Path) -> None:
    result = here("compare", run, "--json", "c.json", "--html", "c.html")
    assert result.code == 0, result.err
    assert "Deploy first/deploy/resnet8-" in " ".join(result.out.split())
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["recommendation"]["run"] == "first"
    report = json.loads((run / "report.json").read_text())
    assert content["recommendation"]["path"] == report["recommendation"]["path"]
    assert "<svg" in (tmp_path / "c.html").read_text()


def test_a_budget_that_nothing_fits(here: Cli, error: Error, run: Path, tmp_path: Path) -> None:
    result = here("compare", run / "report.json", "--size-budget-mb", "0.001", "--json", "c.json")
    message = error(result, 3)
    assert "comes nearest" in message
    assert "too large" in message
    assert json.loads((tmp_path / "c.json").read_text())["nearest"]["run"] == "first"


def test_mistakes(here: Cli, error: Error, run: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("mine")
    assert "is there already" in error(here("compare", run, "--json", "c.json"), 2)
    assert (tmp_path / "c.json").read_text() == "mine"
    assert here("compare", run, "--json", "c.json", "--overwrite").code == 0
    assert "there is no file gone" in error(here("compare", "gone"), 2)
    (tmp_path / "empty").mkdir()
    assert "holds no report.json" in error(here("compare", "empty"), 2)
    assert "--min-accuracy" in error(here("compare", run, "--min-accuracy", "90"), 2)
    (tmp_path / "foreign.json").write_text('{"schema": 1, "name": "x"}')
    assert "no report of imf-deploy" in error(here("compare", "foreign.json"), 1)
    assert here("compare").code == 2
