"""What other runtimes do with a file: run, parsed or looked up, and never confused with each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.checking.clients import ONNXRUNTIME, Client, NotInstalledError, Question, RefusedError
from imf_deploy.checking.result import Checked, Verdict
from imf_deploy.checking.stage import check
from imf_deploy.checking.tables import look_up
from imf_deploy.checking.targets import Target, read_target
from imf_deploy.cli.app import run
from imf_deploy.errors import DeviceError, GateError, UsageError
from imf_deploy.settings.check import CheckSettings

# Right for single images, and wrong in larger batches, as OpenCV is with some files.
WRONG_IN_BATCHES = ONNXRUNTIME.replace("[0]\n", "[0] * (1 if len(batch) == 1 else -1)\n")


def tiny(path: Path, opset: int = 17, form: int = 8, *, reduce_mean: bool = False) -> Path:
    """Write a linear classifier of 3 classes on images of 3 x 4 x 4."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((48, 3), np.float32), "w")
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    if reduce_mean:
        nodes.append(helper.make_node("ReduceMean", ["images"], ["mean"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=form)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("target", "opset", "form", "loads"),
    [
        ("onnxruntime==1.16", 17, 8, True),
        ("onnxruntime==1.16.3", 19, 9, True),
        ("onnxruntime==1.16", 20, 9, False),
        ("onnxruntime==1.17.1", 20, 10, False),
        ("web==1.18", 20, 10, True),
        ("onnxruntime==1.14", 17, 9, False),
        ("onnxruntime==1.30", 17, 8, True),
        ("onnxruntime==1.30", 25, 13, None),
        ("onnxruntime", 17, 8, True),
        ("onnxruntime==1.2", 17, 8, None),
        ("onnxruntime==1", 17, 8, None),
        ("openvino", 17, 8, None),
    ],
)
def test_the_tables(target: str, opset: int, form: int, loads: bool | None, tmp_path: Path) -> None:
    assert look_up(read_target(target), tiny(tmp_path / "a.onnx", opset, form)).loads is loads


def test_known_faults_of_opencv(tmp_path: Path) -> None:
    mean = tiny(tmp_path / "mean.onnx", reduce_mean=True)
    assert look_up(Target("opencv", "4.8.1"), mean).loads is False
    assert look_up(Target("opencv", "4.9"), mean).loads is None
    assert look_up(Target("opencv", "4.8.1"), tiny(tmp_path / "plain.onnx")).loads is None


@pytest.mark.parametrize(
    "text", ["nothing", "onnxruntime=1.18", "onnxruntime==x", "onnxruntime==1;rm", "tensorrt==10", ""]
)
def test_runtimes_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="`runtime`"):
        read_target(text)


def test_old_runtimes_get_the_numpy_that_they_were_built_for() -> None:
    assert read_target("onnxruntime==1.18").client().packages == ("onnxruntime==1.18.*", "numpy<2")
    assert read_target("onnxruntime==1.19").client().packages == ("onnxruntime==1.19.*", "numpy")
    assert read_target("opencv").client().packages == ("opencv-python-headless", "numpy")
    assert read_target("web==1.30").client().packages == ("onnxruntime-web@1.30",)


def test_a_runtime_in_a_process_of_its_own(tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((7, 3, 4, 4), np.float32)
    question = Question(tiny(tmp_path / "a.onnx"), "logits", images, (1, 5))
    right, wrong = (question.ask([sys.executable], script) for script in (ONNXRUNTIME, WRONG_IN_BATCHES))
    assert {size: answers.shape for size, answers in right.items()} == {1: (7, 3), 5: (7, 3)}
    np.testing.assert_allclose(right[1], right[5], atol=1e-5)
    np.testing.assert_allclose(wrong[5][:5], -right[5][:5], atol=1e-5)
    (tmp_path / "b.onnx").write_bytes(b"broken")
    with pytest.raises(RefusedError, match=r"(?i)protobuf|parse"):
        Question(tmp_path / "b.onnx", "logits", images, (1,)).ask([sys.executable], ONNXRUNTIME)


def test_a_runtime_that_is_wrong_in_batches_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is this one: what is tested is the comparison."""

    def here(self: Client, place: Path, question: Question) -> dict[int, Any]:
        return question.ask([sys.executable], WRONG_IN_BATCHES if self.name == "openvino" else self.script)

    monkeypatch.setattr(Client, "install", lambda *_: None)
    monkeypatch.setattr(Client, "run", here)
    checked = check(tiny(tmp_path / "a.onnx"), CheckSettings(("onnxruntime", "openvino"), images=10))
    assert [each.state for each in checked.verdicts] == ["agrees", "differs"]
    assert checked.images == "noise of shape [10, 3, 4, 4]"
    assert "at batch 5: largest logit difference" in checked.verdicts[1].reason
    with pytest.raises(GateError, match="does not work in openvino"):
        checked.raise_for_failures()


def test_what_is_not_installed_is_looked_up(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # neither npm nor qemu
    file, found = next((finished_run / "deploy").glob("*fp32.onnx")), tmp_path / "check.json"
    words = ["check", str(file), "--runtime", "web==1.18,web==1.12", "--json", str(found)]
    checked = run(words) if _loads_in_1_12(file) else _refused(words)
    assert checked == 0
    first, _ = json.loads(found.read_text())["verdicts"]
    assert (first["state"], first["basis"], first["exit_code"]) == ("expected", "table", 0)
    assert "node and npm are not installed" in first["reason"]
    assert "test images of" in capsys.readouterr().out
    with pytest.raises(DeviceError, match="could not be checked in cpu haswell"):
        run(["check", str(file), "--cpu", "haswell"])


def _loads_in_1_12(file: Path) -> bool:
    return look_up(Target("web", "1.12"), file).loads is True


def _refused(words: list[str]) -> int:
    with pytest.raises(GateError, match=r"does not work in web==1\.12"):
        run(words)
    return 0


def test_codes_of_verdicts() -> None:
    codes = {"agrees": 0, "parses": 0, "expected": 0, "differs": 3, "refused": 3, "unchecked": 4}
    verdicts = tuple(Verdict(state, state, "run") for state in codes)  # type: ignore[arg-type]
    assert {each.target: each.code for each in verdicts} == codes
    with pytest.raises(GateError, match="differs, refused"):
        Checked(Path("a.onnx"), "", "", verdicts).raise_for_failures()
    Checked(Path("a.onnx"), "", "", verdicts[:3]).raise_for_failures()


def test_requests_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        check(tiny(tmp_path / "a.onnx"), CheckSettings())
    with pytest.raises(UsageError, match="is not an ONNX file"):
        check(tmp_path / "a.engine", CheckSettings(("onnxruntime",)))
    with pytest.raises(UsageError, match="no output 'other'"):
        check(tmp_path / "a.onnx", CheckSettings(("onnxruntime",)), logits="other")
    with pytest.raises(NotInstalledError):
        Client("nothing", ("nothing@1",)).install(tmp_path / "a.onnx" / "below")
