"""The PyTorch runner: right numbers, and no trace left behind."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.runners.pytorch import PyTorchMode, PyTorchRunner


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def images(number: int = 5) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, 3, 8, 8), dtype=np.float32)


def test_it_gives_the_logits_of_the_module_in_eval_mode() -> None:
    module = network()
    with PyTorchRunner(module) as runner:
        found = runner.infer(images())
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(images())).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_module_stays_as_it_was() -> None:
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with PyTorchRunner(module) as runner:
        runner.infer(images())
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module[0].weight.is_contiguous()


def test_threads_are_set_for_its_calls_and_restored() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return x.flatten(1)

    one, three = PyTorchRunner(Spy(), threads=1), PyTorchRunner(Spy(), threads=3)
    with one, three:
        for runner in (one, three, one):
            runner.infer(images(1))
    assert seen == [1, 3, 1]
    assert torch.get_num_threads() == before


def test_half_precision_comes_back_as_float32() -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).half()

    with PyTorchRunner(Half()) as runner:
        assert runner.infer(images(1)).dtype == np.float32


def test_it_must_be_entered() -> None:
    with pytest.raises(ImfDeployError, match="not open"):
        PyTorchRunner(network()).infer(images())


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"), PyTorchRunner(network(), device="cuda"):
        pass


@pytest.mark.parametrize("mode", ["eager", "channels-last"])
def test_each_mode_gives_the_same_logits_and_copies_no_input(mode: PyTorchMode) -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            logits: torch.Tensor = self.inner(x)
            return logits

    batch = images()
    with PyTorchRunner(Spy(), mode=mode) as runner:
        found = runner.infer(batch)
    with torch.inference_mode():
        expected = network().eval()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    order = torch.channels_last if mode == "channels-last" else torch.contiguous_format
    assert seen[0].is_contiguous(memory_format=order)
    assert (seen[0].data_ptr() == batch.ctypes.data) == (mode == "eager")


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
def test_torch_compile_gives_the_same_logits() -> None:
    module = nn.Sequential(nn.Flatten(), nn.ReLU())
    with PyTorchRunner(module, threads=1, mode="compile") as runner:
        np.testing.assert_array_equal(runner.infer(images(2)), images(2).reshape(2, -1).clip(0))


def test_a_compiler_that_fails_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("outer") from FileNotFoundError("no g++")

    monkeypatch.setattr(torch, "compile", lambda model, **_: refuse)
    with (
        pytest.raises(ImfDeployError, match=r"torch\.compile cannot run this network \(no g\+\+\)"),
        PyTorchRunner(network(), mode="compile") as runner,
    ):
        runner.infer(images())


def test_there_are_no_gpu_parts_on_the_cpu() -> None:
    with PyTorchRunner(network()) as runner:
        assert runner.trace(images()) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", ["eager", "channels-last"])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_cuda_agrees_with_the_cpu(mode: PyTorchMode, cuda_graph: bool) -> None:
    with (
        PyTorchRunner(network()) as cpu,
        PyTorchRunner(network(), device="cuda", mode=mode, cuda_graph=cuda_graph) as gpu,
    ):
        for number in (5, 2, 2, 5):
            expected = cpu.infer(images(number))
            np.testing.assert_allclose(gpu.infer(images(number)), expected, rtol=1e-2, atol=1e-2)
        times = gpu.trace(images())
        assert times is not None
        assert times.compute_ms > 0
