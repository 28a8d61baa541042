"""Weights files: read without running code, and loaded whole or not at all."""

import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, load_weights, read_weights, save_weights, tensor_hashes


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return build_model(ModelSpec("resnet8", 4, 16))


def same(read: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    own = model.state_dict()
    return read.keys() == own.keys() and all(torch.equal(read[name], own[name]) for name in own)


def test_safetensors_there_and_back(tmp_path: Path, model: torch.nn.Module) -> None:
    path = tmp_path / "new" / "w.safetensors"
    save_weights(path, model.state_dict())
    assert same(read_weights(path), model)
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's own limits")
def test_a_full_disk_keeps_what_was_there(tmp_path: Path, model: torch.nn.Module) -> None:
    import resource

    path = tmp_path / "w.safetensors"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ImfDeployError, match=r"cannot write .*w\.safetensors"):
            save_weights(path, model.state_dict())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("key", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pt_in_its_usual_forms(tmp_path: Path, model: torch.nn.Module, key: str, prefix: str) -> None:
    content = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({key: content, "epoch": 3} if key else content, tmp_path / "w.pt")
    assert same(read_weights(tmp_path / "w.pt"), model)


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_truncated_pt(tmp_path: Path, model: torch.nn.Module, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ImfDeployError, match="damaged or holds more than tensors") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_code_in_a_pt_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    witness, path = tmp_path / "it-ran", tmp_path / "w.pt"
    hostile = {"conv1.weight": torch.zeros(1), "extra": Hostile(witness)}
    if form == "zip":
        torch.save(hostile, path)
        assert zipfile.is_zipfile(path)
    else:
        path.write_bytes(pickle.dumps(Hostile(witness)))
    with pytest.raises(ImfDeployError, match="was refused") as caught:
        read_weights(path)
    assert not witness.exists()
    assert "\n" not in str(caught.value)
    # The same file is dangerous to who trusts it.
    torch.load(path, weights_only=False) if form == "zip" else pickle.loads(path.read_bytes())
    assert witness.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": [1, 2]}, {"a": 1}, torch.zeros(3)])
def test_a_pt_without_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ImfDeployError, match="holds no state_dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_truncated_safetensors(tmp_path: Path, model: torch.nn.Module, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model.state_dict())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImfDeployError, match="is not a whole safetensors file"):
        read_weights(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(UsageError, match="is a folder"):
        read_weights(tmp_path)


def test_weights_of_another_model_name_the_keys(model: torch.nn.Module) -> None:
    other = build_model(ModelSpec("resnet14", 4, 16)).state_dict()
    with pytest.raises(ImfDeployError, match=r"unknown: layer1\.1\.conv1\.weight") as caught:
        load_weights(model, other, "teacher.pt")
    assert "teacher.pt belongs to another model than CifarResNet" in str(caught.value)
    with pytest.raises(ImfDeployError, match=r"missing: layer1\.1\.conv1\.weight, .* and \d+ more"):
        load_weights(build_model(ModelSpec("resnet14", 4, 16)), model.state_dict(), "x")


def test_other_shapes_are_named_and_nothing_is_loaded(model: torch.nn.Module) -> None:
    other = build_model(ModelSpec("resnet8", 9, 16)).state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ImfDeployError, match=r"other shapes: fc\.weight \[9, 64\] for \[4, 64\]"):
        load_weights(model, other, "x")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_hashes_tell_tensors_apart_and_leave_out_what_is_equal_by_chance() -> None:
    values = torch.arange(32.0)
    assert tensor_hashes([values]) == tensor_hashes([values.clone()])
    assert tensor_hashes([values]) != tensor_hashes([values + 1])
    assert tensor_hashes([torch.zeros(64), torch.arange(15.0), torch.tensor(3)]) == []
