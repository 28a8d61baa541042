"""A fault that is planted makes the proof fail, and leaves no file."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import GateError
from imf_deploy.forms import to_json
from imf_deploy.records.checks import Rung, StripProof
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher

stage = importlib.import_module("imf_deploy.stripping.stage")
Make = Callable[[str], Distilled]
HOLDS = Rung("stripped", "training graph", "pass")
BREAKS = Rung("folded", "stripped", "fail", "too far")


def refused(distilled: Distilled, product: str, folder: Path) -> str:
    with pytest.raises(GateError) as caught:
        strip(distilled, [product], folder)
    assert caught.value.exit_code == 3
    assert list(folder.iterdir()) == []
    return str(caught.value)


def test_a_wrong_fold(make_distilled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage.fold

    def wrong(*arguments: object) -> torch.nn.Module:
        module = right(*arguments)
        with torch.no_grad():
            module.classifier.weight[0, 0] += 0.01
        return module

    monkeypatch.setattr(stage, "fold", wrong)
    assert "the rung 'folded' fails" in refused(make_distilled("resnet8"), "imf@2", tmp_path / "p")


def test_a_fold_with_equal_weights(
    make_distilled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imf_deploy.method.branches import ImfBranches

    distilled, right = make_distilled("resnet8"), stage.fold

    def without_attention(*arguments: object) -> torch.nn.Module:
        with monkeypatch.context() as patch:
            patch.setattr(ImfBranches, "weights", lambda self, k: torch.full((k, 10), 1 / k))
            return right(*arguments)

    monkeypatch.setattr(stage, "fold", without_attention)
    assert "the rung 'folded' fails" in refused(distilled, "imf@3", tmp_path / "p")


def test_a_wrong_cut(make_distilled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage.fold

    def wrong(*arguments: object) -> torch.nn.Module:
        module = right(*arguments)
        with torch.no_grad():
            module.ifds[0].layers[0].weight[0] += 0.1
        return module

    monkeypatch.setattr(stage, "fold", wrong)
    assert "the rung 'stripped' fails" in refused(make_distilled("resnet8"), "imf@2", tmp_path / "p")


def test_another_student(make_distilled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage.save_weights

    def nearly(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        nudged = torch.nextafter(tensors["fc.bias"], torch.tensor(2.0))
        right(path, tensors | {"fc.bias": nudged})

    monkeypatch.setattr(stage, "save_weights", nearly)
    assert "the rung 'stripped' fails" in refused(make_distilled("resnet8"), "plain", tmp_path / "p")


@pytest.mark.parametrize("heads", ["heads", "prefix_heads"])
def test_a_tensor_of_the_teacher(distilled: Distilled, teacher: Teacher, tmp_path: Path, heads: str) -> None:
    # The first branch's head has the shape of the teacher's, and imf@1 folds with a weight of 1.
    branches = distilled.graph.imf
    branches.make_room(())
    head = branches.heads[0] if heads == "heads" else branches.add_prefix_head(1)
    with torch.no_grad():
        head.weight.copy_(teacher.module.fc.weight)
    message = refused(distilled, "imf@1", tmp_path / "p")
    assert "tensors of the teacher" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"ladder": [HOLDS, BREAKS]}, "the rung 'folded' fails: too far"),
        ({"keys_match": False}, "the tensors are not those of the architecture"),
        ({"teacher_tensors_found": 1}, "tensors of the teacher"),
        ({"attentive_tensors_found": 1}, "tensors of the teacher"),
    ],
)
def test_each_part_of_the_proof_counts(change: dict[str, object], reason: str) -> None:
    whole = StripProof("plain", [HOLDS], True, 0.0, 64, 9, 5, 90, 50, [], True, 0, 0)
    proof = dataclasses.replace(whole, **change)
    assert reason in proof.broken
    assert proof.passed == to_json(proof)["passed"] == (reason == "")
