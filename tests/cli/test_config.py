"""Options from a file: read like the command line, which wins, and written so that a run can be repeated."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imf_deploy.cli.app import COMMANDS, options_of
from imf_deploy.cli.config import read_settings
from imf_deploy.errors import UsageError
from imf_deploy.files import read_json

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_it(command: str) -> None:
    assert "--config" in options_of(command)


def text(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    return path


KNOWN = {"epochs": "epochs", "batch": "batch", "products": "products", "val-fraction": "val_fraction"}


def test_values_are_the_text_that_is_there(tmp_path: Path) -> None:
    content = "batch: 1:1:32  # to YAML 3692\nproducts: [plain, imf@2]\nval-fraction: 1e-1\nepochs: '07'\n"
    assert read_settings(text(tmp_path, content), KNOWN, "distill") == {
        "batch": "1:1:32",
        "products": "plain,imf@2",
        "val_fraction": "1e-1",
        "epochs": "07",
    }
    assert read_settings(text(tmp_path, "# nothing\n"), KNOWN, "distill") == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("val_fraction: 0.1", "has no option 'val_fraction'. The nearest is val-fraction"),
        ("batch: 1\nepoch: 3", "line 2: distill has no option 'epoch'. The nearest is epochs"),
        ("zzz: 3", "See imf-deploy distill --help"),
        ("epochs: 1\nepochs: 2", "line 2: 'epochs' is given twice"),
        ("epochs: {a: 1}", "'epochs' is neither a value nor a list"),
        ("products: [[a]]", "'products' is neither"),
        ("- epochs", "holds no options"),
        ("epochs: [1", "cannot be read"),
        ("epochs: 1\n---\nbatch: 2", "cannot be read"),
        ("epochs: 1\n...\nbatch: 2", "cannot be read"),
        ("epochs: 1\nbatch: [1\nproducts: x\n", "line 3"),
        ("epochs: \x1b[2J", "control characters"),
        ("? [a, b]\n: 1", "line 1: the name of an option must be plain text"),
        ("? {a: 1}\n: 1", "line 1: the name of an option must be plain text"),
        ("epochs: &a 1\nbatch: *a", "line 2: 'batch' is an alias"),
        ("<<: {epochs: 1}", "'<<' is neither a value nor a list of values"),
        ("<<: 1", "has no option '<<'"),
        ("a" * 900 + ": 1", "has no option 'aaaa"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(text(tmp_path, content), KNOWN, "distill")
    assert said in str(caught.value)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


LEVELS = "".join(f"  - &a{n + 1} [{','.join([f'*a{n}'] * 9)}]\n" for n in range(9))
BOMBS = {
    "a list in a list": (
        "epochs: " + "[" * 9_000,
        "line 1: 'epochs' is neither a value nor a list of values: it is",
    ),
    "a closed list": ("epochs: " + "[" * 9_000 + "]" * 9_000, "nested too deeply"),
    "mappings": ("".join(" " * n + "epochs:\n" for n in range(300)), "neither a value"),
    "mappings in braces": ("epochs: " + "{a: " * 9_000, "neither a value"),
    "indented lists": ("epochs:\n" + "- " * 9_000 + "1", "nested too deeply"),
    "a list as the name": ("? " + "[" * 9_000 + "\n: 1", "must be plain text"),
    "names within names": ("? " * 9_000 + "a", "must be plain text"),
    "aliases as the name": ("? - &a0 [l]\n" + LEVELS + ": 1\n", "must be plain text"),
    "aliases as the value": ("epochs:\n  - &a0 [l]\n" + LEVELS, "nested too deeply"),
    "a list that holds itself": ("epochs: &a [*a]", "neither a value"),
    "a long name": ("a" * 60_000 + ": 1", "holds no options"),
    "a long tag": ("epochs: !" + "a" * 60_000 + " 1", ""),
    "many options": ("".join(f"epochs{n}: 1\n" for n in range(4_000)), "line 1: distill has no option"),
    "a large file": ("#" * 70_000, "is larger than 64 KiB"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_short_line(tmp_path: Path, name: str) -> None:
    """Bounded work without a clock: the parser reads a few of thousands of characters that nest."""
    content, said = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        read_settings(text(tmp_path, content), KNOWN, "distill")
    except UsageError as error:
        assert said in str(error)
        assert len(str(error)) < 300 + len(str(tmp_path))
    else:
        assert not said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 2  # processor time: 0.3 s at most


def test_every_command_refuses_a_bomb(here: Cli, error: Error, tmp_path: Path) -> None:
    for content in ("epochs: " + "[" * 3_000, "? - &a0 [l]\n" + LEVELS + ": 1\n"):
        message = error(here("doctor", "--config", text(tmp_path, content)), 2)
        assert "nested too deeply" in message or "must be plain text" in message


def test_no_object_is_made_of_a_tag(tmp_path: Path) -> None:
    path = text(tmp_path, "epochs: !!python/object/apply:os.mkdir [it-ran]\n")
    assert read_settings(path, KNOWN, "distill") == {"epochs": "it-ran"}
    assert not list(tmp_path.rglob("it-ran"))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*gone\.yaml"):
        read_settings(tmp_path / "gone.yaml", KNOWN, "distill")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "c.yaml", KNOWN, "distill")


def test_a_value_of_the_wrong_type_is_told_with_its_file(here: Cli, error: Error, tmp_path: Path) -> None:
    result = here("distill", "--config", text(tmp_path, "epochs: many\n"))
    assert "c.yaml: epochs: many cannot be used" in error(result, 2)
    result = here("export", "x", "--config", text(tmp_path, "trt: cuda\n"))
    assert "trt: cuda cannot be used" in error(result, 2)


def effective(here: Cli, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> dict[str, Any]:
    """Return the settings that the main job would keep, without running it."""
    seen: dict[str, Any] = {}

    def stop(*values: Any, **named: Any) -> None:
        seen.update(next(v for v in [*values, *named.values()] if isinstance(v, dict) and "student" in v))
        raise KeyboardInterrupt

    monkeypatch.setattr("imf_deploy.pipeline.job.distill_and_export", stop)
    assert here("distill-and-export", *arguments).code == 130
    return seen


def test_the_command_line_wins_wherever_it_stands(
    here: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = text(tmp_path, "epochs: 3\nstudent: resnet18\nflip: no\ntrt: off\nbatch: 1:2:4\nalpha: 7\n")
    for order in (["--epochs", 5, "--config", path], ["--config", path, "--epochs", 5]):
        found = effective(here, monkeypatch, *order)
        assert (found["epochs"], found["student"], found["alpha"]) == (5, "resnet18", 7.0)
        assert (found["flip"], found["trt"], found["batch"]) == (False, "off", "1:2:4")
        assert found["beta"] == effective(here, monkeypatch)["beta"]
    assert effective(here, monkeypatch, "--config", path, "--flip")["flip"] is True


def test_a_preset_gives_way_to_the_file(here: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preset = "cifar100/resnet56-resnet20"
    for given, content in (
        ([], f"preset: {preset}\nepochs: 9\n"),
        (["--preset", preset], "epochs: 9\n"),
        (["--preset", preset], f"epochs: 9\npreset: {preset}\n"),
    ):
        config = ["--config", text(tmp_path, content)]
        for arguments in ([*given, *config], [*config, *given]):
            found = effective(here, monkeypatch, *arguments)
            assert (found["epochs"], found["student"], found["warmup"]) == (9, "cifar:resnet20", 0.0)


def test_what_is_kept_says_the_same_again(here: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = ["--student", "resnet18", "--lr", "1e-3", "--no-flip", "--batch", "1:1:8", "--augment", "none"]
    found = effective(here, monkeypatch, *given, "--output", "elsewhere", "--overwrite")
    assert not {"output", "overwrite", "config"} & set(found)
    path = text(tmp_path, yaml.safe_dump(found))
    assert effective(here, monkeypatch, "--config", path) == found


def test_a_run_is_repeated_from_its_own_record(here: Cli, quick: list[str], tmp_path: Path) -> None:
    options = ["--max-accuracy-drop", "100", "--min-agreement", "0"]
    first = here(*quick, *options, "--output", tmp_path / "a")
    assert first.code == 0, first.err
    record = tmp_path / "a" / "config.yaml"
    assert yaml.safe_load(record.read_text())["student"] == "resnet8"
    again = here("distill-and-export", "--config", record, "--output", tmp_path / "b")
    assert again.code == 0, again.err
    a, b = (read_json(tmp_path / name / "run.json") for name in "ab")
    assert a == b
    assert (tmp_path / "b" / "config.yaml").read_text() == record.read_text()
    weights = [tmp_path / name / "distilled.safetensors" for name in "ab"]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_teacher_s_record_lies_beside_it(here: Cli, image_folder: Path, tmp_path: Path) -> None:
    common = ["--data", image_folder, "--teacher", "resnet8", "--epochs", "1", "--device", "cpu"]
    assert here("train-teacher", *common, "--output", tmp_path / "t.safetensors").code == 0
    record = tmp_path / "t.config.yaml"
    again = here("train-teacher", "--config", record, "--output", tmp_path / "u.safetensors")
    assert again.code == 0, again.err
    assert (tmp_path / "t.safetensors").read_bytes() == (tmp_path / "u.safetensors").read_bytes()
    given = ["--student", "resnet8", "--epochs", "1", "--teacher-weights", tmp_path / "t.safetensors"]
    made = here("distill", "--data", image_folder, *given, "--output", tmp_path / "d")
    assert made.code == 0, made.err
    assert yaml.safe_load((tmp_path / "d" / "config.yaml").read_text())["epochs"] == 1


def test_each_stage_leaves_a_record_of_its_own(
    here: Cli, finished_run: Path, teacher_file: Path, tmp_path: Path
) -> None:
    run, product = tmp_path / "run", "resnet8-imf@1"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "products")
    shutil.rmtree(run / "deploy")
    before = {path.name: path.read_bytes() for path in run.glob("*.yaml")}

    def made(*arguments: object) -> None:
        result = here(*arguments)
        assert result.code == 0, result.err

    gate = ["--max-accuracy-drop", "100", "--min-agreement", "0"]
    made("strip", run / "distilled.safetensors", "--products", "imf@1", "--trust-model", "a:b")
    made("export", run / "products" / f"{product}.safetensors", "--precisions", "fp32", "--trt", "off", *gate)
    deploy = run / "deploy"
    made("calibrate", deploy / f"{product}-fp32.onnx", *gate, "--keep-int8", "--images", "8")
    names = {path.relative_to(run).as_posix() for path in run.rglob("*.config.yaml")}
    (calibrated,) = names - {"products/strip.config.yaml", f"deploy/{product}.config.yaml"}
    assert (run / calibrated).with_name(calibrated.split("/")[1].replace(".config.yaml", ".onnx")).is_file()
    assert before == {path.name: path.read_bytes() for path in run.glob("*.yaml")}
    kept = {name: yaml.safe_load((run / name).read_text()) for name in names}
    assert (
        kept["products/strip.config.yaml"] | {"products": "imf@1", "trust-model": ["a:b"]}
        == kept["products/strip.config.yaml"]
    )
    assert kept[f"deploy/{product}.config.yaml"]["precisions"] == "fp32"
    assert kept[calibrated]["images"] == 8
    # Each says the same again.
    strip = ["strip", run / "distilled.safetensors", "--config", run / "products" / "strip.config.yaml"]
    made(*strip, "--output", tmp_path / "again")
    assert (tmp_path / "again" / "strip.config.yaml").read_text() == (
        run / "products" / "strip.config.yaml"
    ).read_text()
    assert [path.name for path in (tmp_path / "again").glob("*.safetensors")] == [f"{product}.safetensors"]
    made("export", run / "products" / f"{product}.safetensors", "--config", deploy / f"{product}.config.yaml")
    again = ["calibrate", deploy / f"{product}-fp32.onnx", "--config", run / calibrated]
    made(*again)
    assert yaml.safe_load((run / calibrated).read_text()) == kept[calibrated]
