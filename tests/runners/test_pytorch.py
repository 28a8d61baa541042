"""The PyTorch runner: right numbers, and no trace left behind."""

import numpy as np
import pytest
import torch
from torch import nn

from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.runners import PyTorchRunner


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu() -> None:
    with PyTorchRunner(network()) as cpu, PyTorchRunner(network(), device="cuda") as gpu:
        np.testing.assert_allclose(gpu.infer(images()), cpu.infer(images()), rtol=1e-2, atol=1e-2)
