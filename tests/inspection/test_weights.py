from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.inspection import inspect
from imf_deploy.training.checkpoint import Progress, save_checkpoint


def test_products_and_distilled_students_of_ours(run: Path) -> None:
    product = inspect(run / "products" / "resnet8-imf@1.safetensors")
    assert product.title == "a stripped student: resnet8, product imf@1"
    assert product.record is not None
    assert product.record["strip"]["passed"] is True
    assert "removed" not in product.record["strip"]
    student = inspect(run / "distilled.safetensors")
    assert student.title == "a distilled student with its branches: resnet8"
    assert student.facts["values"] > product.facts["values"]
    assert student.warnings == product.warnings == []


def test_a_teacher_of_ours(teacher_file: Path) -> None:
    assert inspect(teacher_file).title == "the weights of a teacher: resnet8"


def test_anybody_s_weights(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros((), dtype=torch.int64)}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    found = inspect(tmp_path / "w.safetensors")
    assert found.facts["tensors"] == [
        {"name": "a", "dtype": "BF16", "shape": [2, 3]},
        {"name": "b", "dtype": "I64", "shape": []},
    ]
    assert found.facts["values_by_type"] == {"BF16": 6, "I64": 1}
    assert found.facts["metadata"] == {"format": "pt"}
    assert (found.record, found.warnings) == (None, [])


def test_a_checkpoint_says_how_far_its_training_came(tmp_path: Path) -> None:
    path = tmp_path / "distilled.checkpoint"
    progress = Progress(3, 17, [{"epoch": 1.0}])
    groups = {"module": {"w": torch.zeros(2)}}
    save_checkpoint(path, {"lr": 0.1}, progress, groups, {"state": {}, "param_groups": []}, {})
    found = inspect(path)
    assert found.title == "a checkpoint of an unfinished training, as safetensors"
    assert found.facts["training"] == {
        "finished_epochs": 3, "batches_of_the_next": 17, "settings": {"lr": 0.1}
    }  # fmt: skip
    assert [tensor["name"] for tensor in found.facts["tensors"]] == ["module/w"]
    assert found.warnings == []


@pytest.mark.parametrize(
    "told", ["", "[]", "[" * 100_000, '{"settings": ' + '{"a": ' * 200 + "0" + "}" * 201]
)
def test_a_checkpoint_that_tells_nonsense(tmp_path: Path, told: str) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "w.checkpoint", metadata={"imf-deploy-checkpoint": told})
    assert inspect(tmp_path / "w.checkpoint").facts["training"] == {}


def test_a_checkpoint_that_is_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    torch.save({"w": Trap(tmp_path / "sprung")}, tmp_path / "w.checkpoint")
    with pytest.raises(ImfDeployError, match="not a valid safetensors file"):
        inspect(tmp_path / "w.checkpoint")
    assert not (tmp_path / "sprung").exists()


def header(content: object, length: int | None = None) -> bytes:
    text = json.dumps(content).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        header({}, length=1 << 62),
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        header({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}}),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}),
        header([]),
    ],
)
def test_no_whole_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ImfDeployError, match="not a valid safetensors file"):
        inspect(tmp_path / "w.safetensors")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.bin", "weights", "w.txt"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, name: str) -> None:
    torch.save({"w": Trap(tmp_path / "sprung")}, tmp_path / name)
    with pytest.raises(UsageError, match="pickle") as raised:
        inspect(tmp_path / name)
    assert "safetensors.torch.save_file" in str(raised.value)
    assert not (tmp_path / "sprung").exists()


def test_something_else_altogether(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"has an unknown type.*\.onnx"):
        inspect(tmp_path / "notes.txt")
