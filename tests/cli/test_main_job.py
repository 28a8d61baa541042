"""The main job from a folder of pictures to checked files, as a user runs it."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import preloaded
import pytest
import yaml

from imf_deploy.artifact import load_artifact
from imf_deploy.files import sha256_file

Row = dict[str, Any]
PLAIN_SESSION = """
import sys
import numpy as np, onnxruntime
for path in sys.argv[1:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    whole = np.random.default_rng(0).standard_normal((5, 3, 32, 32), dtype=np.float32)
    (reference,) = session.run(None, {"images": whole})
    for count in (1, 2, 5):
        (logits,) = session.run(None, {"images": whole[:count]})
        assert logits.shape == (count, 3) and logits.dtype == np.float32
        assert np.allclose(logits, reference[:count], atol=1e-2)
assert not any(name.partition(".")[0] in ("imf_deploy", "torch") for name in sys.modules)
print("fine")
"""


@pytest.fixture(scope="module")
def command(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        "distill-and-export", "--data", str(image_folder), "--student", "resnet8x0.5",
        "--teacher", "resnet8", "--teacher-epochs", "1", "--epochs", "1", "--image-size", "32",
        "--products", "plain,imf@1", "--precisions", "fp32,fp16,int8", "--bench-seconds", "0",
        "--device", "cpu",
        # A network of one epoch on a few pictures guesses; what INT8 makes of a guess is chance, and more
        # so where a head is fitted to features that are all but constant.
        "--max-accuracy-drop", "100", "--min-agreement", "0", "--keep-int8", "--no-refit",
        "--output", str(tmp_path_factory.mktemp("run") / "out"),
    ]  # fmt: skip


def run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = preloaded.run(["-m", "imf_deploy", *command], cwd=place)
    return done


@pytest.fixture(scope="module")
def out(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = run(command, tmp_path_factory.mktemp("place"))
    assert done.returncode == 0, done.stderr
    assert "resnet8x0.5" in done.stdout
    assert "Teacher resnet8:" in done.stderr
    return Path(command[-1])


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(name)

    content: dict[str, Any] = json.loads((out / "report.json").read_text(), parse_constant=refuse)
    return content


def rows(report: dict[str, Any], kind: str) -> list[Row]:
    return [row for row in report["artifacts"] if row["format"].startswith(kind)]


def test_the_report_says_what_was_done(report: dict[str, Any]) -> None:
    assert (report["student"], report["teacher"], report["dataset"]) == ("resnet8x0.5", "resnet8", "colours")
    assert 0 <= report["teacher_accuracy"] <= 1
    assert report["environment"]["versions"]["torch"]
    assert [proof["product"] for proof in report["strip"]] == ["plain", "imf@1"]
    assert all(proof["passed"] for proof in report["strip"])


def test_every_onnx_file_has_a_whole_row(report: dict[str, Any], out: Path) -> None:
    found = rows(report, "onnx")
    forms = ["fp32", "fp16", "int8", *(["int8-trt"] if rows(report, "tensorrt") else [])]
    assert [Path(r["path"]).stem.partition("-")[2] for r in found] == [
        f"{product}-{form}" for product in ("plain", "imf@1") for form in forms
    ]
    for row in found:
        path = out / row["path"]
        assert not Path(row["path"]).is_absolute()
        assert row["sha256"] == sha256_file(path) == load_artifact(path).sha256
        assert row["size_bytes"] == path.stat().st_size
        assert row["status"] == "pass"
        for name in ("accuracy", "pytorch_accuracy", "agreement"):
            assert 0 <= row[name] <= 1
        assert math.isfinite(row["max_abs_diff"])
        for name in ("latency_ms", "pytorch_latency_ms"):
            if row["path"].endswith("-int8-trt.onnx"):  # says nothing about a CPU
                assert row[name] is None
                continue
            assert row["memory_bytes"] > 0
            assert 0 < row[name]["p50"] <= row[name]["p90"] <= row[name]["p99"]
        assert row["parameters"] > 0
        assert row["macs"] > 0
    sizes = {(r["product"], r["precision"]): r["size_bytes"] for r in found}
    assert sizes["plain", "fp16"] < 0.6 * sizes["plain", "fp32"]
    assert sizes["imf@1", "fp32"] < sizes["plain", "fp32"]


def test_every_engine_has_a_row(report: dict[str, Any], out: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = rows(report, "tensorrt")
    assert len(found) == 6
    for row in found:
        assert row["sha256"] == sha256_file(out / row["path"])
        assert row["targets"]
        assert row["parameters"] > 0
        assert row["status"] == "pass" or "CUDA" in row["reason"]


def test_the_page_is_self_contained(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert "<svg" in page or "data:image" in page
    assert not any(part in page for part in ('src="http', 'href="http', "@import", "<link"))


def test_onnx_files_load_anywhere_at_any_batch(report: dict[str, Any], out: Path, tmp_path: Path) -> None:
    paths = [str(out / row["path"]) for row in rows(report, "onnx")]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_SESSION, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_onnx_files_say_what_they_are(report: dict[str, Any], out: Path) -> None:
    for row in rows(report, "onnx"):
        model = onnx.load(out / row["path"])
        said = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(said["labels"]) == ["class0", "class1", "class2"]
        assert json.loads(said["preprocess"])["size"] == 32
        assert (said["product"], said["precision"]) == (row["product"], row["precision"])
        int8 = row["precision"] == "int8"
        assert float(said["float_accuracy" if int8 else "accuracy"]) == row["pytorch_accuracy"]
        assert ("accuracy" in said) != int8
        assert "torch" in json.loads(said["tools"])
        record = load_artifact(out / row["path"])
        assert said["source_sha256"] == record.source
        kinds = Counter(node.op_type for node in model.graph.node)
        linear, other = ("MatMul", "Gemm") if row["precision"] == "fp16" else ("Gemm", "MatMul")
        assert kinds[linear] == 1
        assert not {"Softmax", "BatchNormalization", other} & set(kinds)
        # What ONNX Runtime 1.16 loads; benchmarks/clients.py runs it.
        assert model.ir_version <= 9
        assert not model.graph.value_info
        (standard,) = model.opset_import
        assert (standard.domain, standard.version <= 19) == ("", True)
        for node in model.graph.node:
            assert onnx.defs.get_schema(node.op_type, standard.version).since_version <= standard.version
        assert (said.get("runtime") == "TensorRT alone") == row["path"].endswith("-trt.onnx")


def test_the_same_command_again_makes_nothing_anew(
    here: Callable[..., Any], command: list[str], out: Path
) -> None:
    kept = [path for path in out.rglob("*") if path.suffix in (".safetensors", ".onnx", ".engine")]
    times = {path: path.stat().st_mtime_ns for path in kept}
    done = here(*command)
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert "epoch" not in done.err
    tight = here(*command, "--latency-budget-ms", "1e-6", "--output", out)
    assert tight.code == 3
    assert "no file is within 1e-06 ms: the fastest, deploy/" in tight.err.lower()
    assert json.loads((out / "report.json").read_text())["latency_budget_ms"] == 1e-6


def test_the_stages_go_on_from_its_files(here: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    onnx_file = out / "deploy" / "resnet8x0.5-imf@1-fp32.onnx"
    product = out / "products" / "resnet8x0.5-imf@1.safetensors"
    result = here("verify", onnx_file, "--against", product)
    assert result.code == 0
    assert "Same class as PyTorch on 100 %" in result.out
    assert "folded against stripped: pass" in result.out
    other = out / "products" / "resnet8x0.5-plain.safetensors"
    assert here("verify", onnx_file, "--against", other).code == 1
    result = here("strip", out / "distilled.safetensors", "--products", "imf@2", "--output", tmp_path / "p")
    assert result.code == 0
    assert (tmp_path / "p" / "resnet8x0.5-imf@2.safetensors").is_file()


def test_few_files_by_default_and_all_of_them_later(
    here: Callable[..., Any], image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [
        "distill-and-export", "--data", image_folder, "--student", "resnet8", "--teacher", "resnet8",
        "--teacher-epochs", "1", "--epochs", "1", "--bench-seconds", "0", "--device", "cpu",
        "--max-accuracy-drop", "100", "--min-agreement", "0", "--keep-int8", "--output", out,
    ]  # fmt: skip

    def names(folder: str, kinds: tuple[str, ...]) -> set[str]:
        return {p.name.removeprefix("resnet8-") for p in (out / folder).iterdir() if p.suffix in kinds}

    done = here(*command)
    assert done.code == 0, done.err
    report = json.loads((out / "report.json").read_text())
    made = [proof["product"] for proof in report["strip"]]
    left = report["left_out"]
    assert made[0] == "plain"
    assert sorted([*made, *left["products"]]) == ["imf@1", "imf@2", "imf@3", "plain"]
    assert left["products"]  # of three that are all but guessing, two at most are chosen
    assert names("products", (".safetensors",)) == {f"{product}.safetensors" for product in made}
    forms = ["fp32.onnx", "int8.onnx"]
    if any(row["format"] != "onnx" for row in report["artifacts"]):
        forms += ["fp16.onnx", "fp16.engine"]
    assert names("deploy", (".onnx", ".engine")) == {f"{p}-{form}" for p in made for form in forms}
    assert left["command"] in done.out.replace("\n", " ").replace("  ", " ")

    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    done = here(*command, "--products", "all", "--precisions", "fp32")
    assert done.code == 0, done.err
    assert "epoch" not in done.err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {f"{p}-fp32.onnx" for p in ("plain", "imf@1", "imf@2", "imf@3")} <= names("deploy", (".onnx",))
    report = json.loads((out / "report.json").read_text())
    assert (len(report["strip"]), report["left_out"]) == (4, None)
    assert json.loads((out / "run.json").read_text())["config"]["products"] == ["all"]


def test_without_validation_images_all_products_are_made(
    here: Callable[..., Any], quick: list[str], tmp_path: Path
) -> None:
    options = ["--products", "best", "--val-fraction", "0", "--output", tmp_path / "out"]
    done = here(*quick, *options)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [proof["product"] for proof in report["strip"]] == ["plain", "imf@1", "imf@2", "imf@3"]
    assert any("no validation images for a choice" in note for note in report["notes"])
    assert "no validation images for a choice" in done.err


def test_a_quick_trial_says_that_it_is_no_result(
    here: Callable[..., Any], image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.yaml").write_text("epochs: 90\nproducts: all\nteacher-epochs: 80\n")
    command = [
        "distill-and-export", "--data", image_folder, "--student", "resnet8", "--teacher", "resnet8",
        "--trt", "off", "--precisions", "fp32", "--bench-seconds", "0", "--device", "cpu", "--quick",
        "--config", tmp_path / "long.yaml",
    ]  # fmt: skip
    done = here(*command)
    assert done.code == 0, done.err
    out = tmp_path / "imf-deploy-quick"
    assert [path.name for path in (out / "products").glob("*.safetensors")] == ["resnet8-plain.safetensors"]
    said = "its accuracies are not a result"
    first = next(line for line in done.lines if line)
    assert said in first
    assert said in " ".join(done.out.split("Deploy nothing from this run")[-1].split())
    report = json.loads((out / "report.json").read_text())
    assert (len(report["history"]), len(report["teacher_history"])) == (1, 1)
    assert (report["recommendation"], report["left_out"]) == (None, None)
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert (kept["epochs"], kept["products"], kept["refit"], kept["quick"]) == (1, "plain", False, True)
    assert said in (out / "report.md").read_text().split("\n\n")[1]
    assert said in (out / "report.html").read_text().partition('class="lead"')[2].partition("</p>")[0]
    # Nor is it in the place of a run of one epoch, or the other way round.
    usual = [*command[:-3], "--epochs", "1", "--teacher-epochs", "1", "--products", "plain", "--no-refit"]
    refused = here(*usual, "--output", out)
    assert refused.code == 2
    assert "(other quick)" in refused.err


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--epochs", "1"], "--epochs is"), (["--products", "plain"], "--products is"),
     (["--products", "all", "--teacher-epochs", "9"], "--teacher-epochs and --products are"),
     (["--no-refit"], "--refit is")],
)  # fmt: skip
def test_quick_and_what_it_sets_exclude_each_other(
    here: Callable[..., Any], error: Callable[..., str], options: list[str], named: str
) -> None:
    message = error(here("distill-and-export", "--quick", *options), 2)
    assert named in message
