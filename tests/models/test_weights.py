"""Weights files: read without running code, and loaded whole or not at all."""

import sys
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


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_truncated_safetensors(tmp_path: Path, model: torch.nn.Module, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model.state_dict())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImfDeployError, match="is not a valid safetensors file"):
        read_weights(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_weights(tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="is a folder"):
        read_weights(tmp_path)


def test_weights_of_another_model_name_the_keys(model: torch.nn.Module) -> None:
    other = build_model(ModelSpec("resnet14", 4, 16)).state_dict()
    with pytest.raises(ImfDeployError, match=r"unknown: layer1\.1\.conv1\.weight") as caught:
        load_weights(model, other, "teacher.pt")
    assert "teacher.pt does not belong to CifarResNet" in str(caught.value)
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


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64])
def test_other_kinds_of_numbers_are_refused(model: torch.nn.Module, kind: torch.dtype) -> None:
    other = model.state_dict()
    other["fc.weight"] = other["fc.weight"].to(kind)
    with pytest.raises(ImfDeployError, match=rf"fc\.weight {str(kind)[6:]} for float32"):
        load_weights(model, other, "x")


def test_weights_where_a_count_belongs(model: torch.nn.Module) -> None:
    other = {n: t.float() for n, t in model.state_dict().items()}
    load_weights(model, other, "x")  # averages of weights turn counters into floats
    assert model.state_dict()["bn1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_are_loaded(kind: torch.dtype) -> None:
    network = build_model(ModelSpec("resnet8", 4, 16))
    other = {n: t.to(kind) if t.is_floating_point() else t for n, t in network.state_dict().items()}
    fresh = build_model(ModelSpec("resnet8", 4, 16))
    load_weights(fresh, other, "x")
    assert torch.equal(fresh.fc.weight, other["fc.weight"].float())
    assert fresh.fc.weight.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_in_the_network(value: float) -> None:
    network = build_model(ModelSpec("resnet8", 4, 16))
    other = {n: t.double() if n == "fc.bias" else t for n, t in network.state_dict().items()}
    other["fc.bias"][1] = value
    with pytest.raises(ImfDeployError, match=r"not finite \(fc\.bias\)"):
        load_weights(network, other, "x")
