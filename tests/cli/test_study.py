"""``imf-deploy study`` on tiny data, from its plan to its page; what it refuses; and resuming."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imf_deploy.errors import UsageError
from imf_deploy.settings import StudySettings
from imf_deploy.settings.study import Thin

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]


@pytest.fixture
def command(image_folder: Path, teacher_file: Path) -> list[str]:
    return [
        "study", "--data", str(image_folder), "--teacher-weights", str(teacher_file), "--students", "resnet8",
        "--methods", "ce,kd,imf", "--seeds", "0,1", "--tries", "1", "--epochs", "1", "--batch-size", "8",
        "--lr", "0.02", "--device", "cpu", "--bench-seconds", "0", "--output", "out",
    ]  # fmt: skip


def test_a_study_from_its_plan_to_its_page(
    here: Cli, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    own = ("--alpha", "10", "--variant", "feature distance raw")
    result = here(*command, "--jobs", "2", "--thin", "resnet8x0.5:2", *own)
    assert result.code == 0, result.err
    assert (result.out, result.lines[-1].split(":")[0]) == ("", "out/study.md")
    assert "Comparing methods, 8 of 8: resnet8" in result.err

    found = json.loads((out / "study.json").read_text())
    methods = ["ce", "kd", "imf"]
    runs = [(run["student"], run["method"], run["seed"], run["epochs"]) for run in found["trained"]]
    assert sorted(runs) == sorted(
        [("resnet8", method, seed, 1) for method in methods for seed in (0, 1)]
        + [("resnet8x0.5", "kd", seed, 2) for seed in (0, 1)]
    )
    assert found["tried"] == []
    for run in found["trained"]:
        assert run["settings"]["train"]["lr"] == 0.02  # of everybody
        products = ["plain", "imf@1", "imf@2", "imf@3"] if run["method"] == "imf" else ["plain"]
        assert list(run["test"]) == list(run["validation"]) == products
        assert run["cpu_seconds"] > 0
    networks = {(n["student"], n["product"]): n for n in found["networks"]}
    assert networks.keys() == {
        *(("resnet8", product) for product in ("plain", "imf@1", "imf@2", "imf@3")),
        ("resnet8x0.5", "plain"),
    }
    sizes = [networks["resnet8", name]["macs"] for name in ("imf@1", "imf@2", "plain")]
    assert sizes == sorted(sizes)
    assert not any(network["latency_ms"] for network in networks.values())

    page = (out / "study.md").read_text()
    assert shlex.join(["imf-deploy", *command]) in page
    for title in ("cross-entropy", "KD", "IMF"):
        assert f"| {title} |" in page
        assert f"- {title}: " in page  # its settings
    assert "- IMF: alpha 10, beta 20, temperature 4, distance raw" in page
    assert "IMF is trained as a variant: feature distance raw" in page
    assert "resnet8x0.5" in page
    assert {path.suffix for path in (out / "pictures").rglob("*") if path.is_file()} >= {".svg", ".png"}

    kept = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir() if path.name != ".lock"}
    assert len(kept) == 8 * 3
    options = yaml.safe_load((out / "config.yaml").read_text())
    assert options["thin"] == "resnet8x0.5:2"
    assert "output" not in options

    def refuse(*_: object) -> None:
        raise AssertionError("a process was to be started")

    monkeypatch.setattr("imf_deploy.study.pool.ProcessPoolExecutor.submit", refuse)
    again = here("study", "--config", "out/config.yaml", "--output", "out")
    assert again.code == 0, again.err
    assert "Comparing methods: 8 of 8 are already finished" in again.err
    assert {
        path: path.stat().st_mtime_ns for path in (out / "runs").iterdir() if path.name != ".lock"
    } == kept
    other = json.loads((out / "study.json").read_text())
    assert {name: other[name] for name in ("config", "chosen", "trained", "networks")} == {
        name: found[name] for name in ("config", "chosen", "trained", "networks")
    }
    assert yaml.safe_load((out / "config.yaml").read_text()) == options


def test_the_page_tells_what_was_tried(here: Cli, command: list[str], tmp_path: Path) -> None:
    result = here(*command, "--methods", "kd", "--seeds", "0", "--tries", "2")
    assert result.code == 0, result.err
    tried = json.loads((tmp_path / "out" / "study.json").read_text())["tried"]
    accuracies = [f"{100 * run['validation']['plain']:.2f}" for run in tried]
    page = (tmp_path / "out" / "study.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| KD |") and "temperature 4" in line]
    assert [row.split(" | ")[-1].rstrip(" |") for row in rows] == accuracies
    won = [float(accuracy) for row, accuracy in zip(rows, accuracies, strict=True) if "**beta" in row]
    assert won == [max(map(float, accuracies))]


def test_methods_that_diverge_with_all_settings_stop_the_study(
    here: Cli, command: list[str], error: Error, tmp_path: Path
) -> None:
    arguments = [*command, "--methods", "ce", "--seeds", "0", "--tries", "2", "--lr", "1e18"]
    result = here(*arguments)
    assert "Choosing settings, 2 of 2: resnet8 ce seed 1000: diverged" in result.err
    assert "resnet8 ce seed 0: the loss became nan" in error(result, 1)
    assert not (tmp_path / "out" / "study.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "kd,simkd"], "--methods simkd is not known. Use ce, kd, fitnet,"),
        (["--methods", "kd,kd"], "--methods cannot be used"),
        (["--seeds", "0,1,1"], "--seeds cannot be used"),
        (["--seeds", ""], "--seeds cannot be used"),
        (["--seeds", "0,one"], "--seeds one cannot be used (input should be a valid integer"),
        (["--seeds", "0,1.5"], "--seeds 1.5 cannot be used"),
        (["--tuning-seed", "1"], "--tuning-seed cannot be used"),
        (["--tries", "9"], "--tries 9 is out of range. Give at most 4."),
        (
            ["--thin", "resnet8x0.5", "--methods", "ce,imf"],
            "Thin students learn by KD: add kd to --methods",
        ),
        (["--thin", "resnet8x0.5:0"], "--thin resnet8x0.5:0 has 0 epochs"),
        (["--thin", "resnet9x0.5"], "unknown model 'resnet9x0.5'"),
        (["--students", "resnet8,resnet9"], "unknown model 'resnet9'"),
        (["--ablation-seeds", "3"], "--ablation-seeds cannot be used"),
        (["--grid", "--methods", "ce,kd"], "Add imf to --methods"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--bench-seconds", "-1"], "--bench-seconds -1 is out of range. Give at least 0"),
        (["--teacher-outputs-gb", "-1"], "--teacher-outputs-gb"),
        (["--teacher-outputs-gb", "nan"], "--teacher-outputs-gb"),
        (["--val-fraction", "0", "--tries", "2"], "there are none. Raise --val-fraction"),
        (["--lr", "0"], "--lr 0 is out of range"),
        (["--teacher-weights", ""], "no teacher is given"),
    ],
)
def test_what_is_refused_leaves_nothing(
    here: Cli, command: list[str], error: Error, tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in error(here(*command, *arguments), 2)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(
    here: Cli, command: list[str], error: Error, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    assert "--output out is a file" in error(here(*command), 2)
    assert (tmp_path / "out").read_text() == "mine"


def test_numbers_and_thin_students_are_read() -> None:
    def read(**texts: Any) -> StudySettings:
        return StudySettings(**texts)

    assert read(seeds=" 3, 1,2 ,").seeds == (3, 1, 2)
    assert read(seeds="").seeds == ()
    assert read(thin="").thin == ()
    assert read(thin="mobilenetv2x0.5:10, cifar:resnet8x0.5,my.module:make,my.module:make:3").thin == (
        Thin("mobilenetv2x0.5", 10),
        Thin("cifar:resnet8x0.5"),
        Thin("my.module:make"),
        Thin("my.module:make", 3),
    )
    with pytest.raises(UsageError, match="has 0 epochs"):
        read(thin="resnet8:0")
