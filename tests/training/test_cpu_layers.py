"""Layers that a CPU trains by other operators give the same answers and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from imf_deploy.training.cpu_layers import COPIED, fast_layers

CPU = torch.device("cpu")


def gradients(module: nn.Module, images: Tensor, fast: bool) -> list[Tensor]:
    """Return output, gradient of the images, and gradients of the weights, of one training step."""
    module = copy.deepcopy(module).train()
    images = images.clone().requires_grad_()
    with fast_layers(module, CPU if fast else torch.device("meta")):
        output = module(images * 1.0)
        output.backward(torch.linspace(-1, 1, output.numel()).view(output.shape))
    assert images.grad is not None
    return [output.detach(), images.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def pictures(channels: int, rows: int, columns: int) -> Tensor:
    made = torch.randn(8, channels, rows, columns, generator=torch.Generator().manual_seed(1)) * 4
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [nn.ReLU6, *COPIED])
def test_activations_that_overwrite_their_input_give_the_same_bits(kind: type[nn.Module]) -> None:
    layer = nn.Sequential(nn.BatchNorm2d(6), kind(inplace=True))
    images = pictures(6, 5, 5)
    plain, fast = gradients(layer, images, False), gradients(layer, images, True)
    assert all(torch.equal(a, b) for a, b in zip(plain, fast, strict=True))


def test_no_copy_is_kept_of_what_relu6_overwrites() -> None:
    kept: list[Tensor] = []
    layer = nn.ReLU6(inplace=True)
    with (
        fast_layers(layer, CPU),
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
    ):
        output = layer(pictures(4, 3, 3).requires_grad_() * 1.0)
    assert [t.data_ptr() for t in kept if t.shape == output.shape][-1] == output.data_ptr()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(1, 1), (2, 2), (2, 5), (3, 3), (4, 4), (5, 2)])
def test_gradients_of_depthwise_convolutions(side: tuple[int, int], stride: int) -> None:
    layer = nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=False).to(memory_format=torch.channels_last)
    images = pictures(6, *side)
    exact = gradients(layer.double(), images.double(), False)
    fast = gradients(layer.float(), images, True)
    for wanted, found in zip(exact, fast, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("side", [2, 9])
def test_gradients_of_pointwise_convolutions(side: int, bias: bool) -> None:
    layer = nn.Conv2d(6, 10, 1, bias=bias).to(memory_format=torch.channels_last)
    images = pictures(6, side, side)
    exact = gradients(layer.double(), images.double(), False)
    fast = gradients(layer.float(), images, True)
    assert fast[0].is_contiguous(memory_format=torch.channels_last)
    for wanted, found in zip(exact, fast, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


def test_a_module_is_as_before_also_after_an_error() -> None:
    module = nn.Sequential(
        nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False),
        nn.ReLU6(inplace=True),
        nn.Conv2d(6, 4, 1),
        nn.SiLU(inplace=True),
    )
    names, kinds = [*module.state_dict()], [type(layer) for layer in module]
    with pytest.raises(ZeroDivisionError), fast_layers(module, CPU):
        assert [*module.state_dict()] == names
        assert [type(layer) for layer in module] != kinds
        raise ZeroDivisionError
    assert [type(layer) for layer in module] == kinds
    assert module[3].inplace is True


def test_subclasses_and_other_convolutions_are_left_alone() -> None:
    class Own(nn.Conv2d):
        pass

    layers = nn.Sequential(
        Own(4, 4, 1),
        nn.Conv2d(4, 4, 1, 2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular", bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
        nn.ReLU6(),
    )
    kinds = [type(layer) for layer in layers]
    with fast_layers(layers, CPU):
        assert [type(layer) for layer in layers] == kinds


def test_lower_precision_takes_pytorchs_own_way() -> None:
    layer = nn.Sequential(
        nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.ReLU6(inplace=True), nn.Conv2d(6, 4, 1)
    ).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        plain, fast = gradients(layer, pictures(6, 2, 2), False), gradients(layer, pictures(6, 2, 2), True)
    assert all(torch.equal(a, b) for a, b in zip(plain, fast, strict=True))
