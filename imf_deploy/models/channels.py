"""Networks for images of one channel, made from networks for three."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from imf_deploy.errors import UsageError


@torch.no_grad()
def with_one_channel(network: nn.Module) -> nn.Module:
    """Replace the first convolution by one for a single input channel, in place, and return the network.

    Its weights are the sums over the three input channels, so that the network answers for a grey image as it
    did for three equal channels.

    Raises:
        UsageError: no convolution has three input channels, or the network addresses single channels.
    """
    if getattr(network, "transform_input", False):
        raise UsageError(
            "`transform_input` is for images of three channels", "Leave it out, or use `channels` 3"
        )
    places = [
        (name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3
    ]
    if not places or places[0][1].groups != 1:
        raise UsageError(
            f"{type(network).__name__} has no convolution of three input channels", "Use `channels` 3"
        )
    name, three = places[0]
    one = copy.deepcopy(three)
    one.in_channels = 1
    one.weight = nn.Parameter(three.weight.sum(1, keepdim=True))
    network.set_submodule(name, one)
    return network


def sum_channels(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a network for three channels in the form of the same network for one.

    Args:
        tensors: Tensors by name.
        expected: The ``state_dict`` of the network for one channel. A weight ``[O, 3, *kernel]`` for which it
            has ``[O, 1, *kernel]`` is summed over its input channels; all others are returned as they are.
    """
    return {
        name: tensor.sum(1, keepdim=True) if _is_for_three(tensor, expected.get(name)) else tensor
        for name, tensor in tensors.items()
    }


def _is_for_three(tensor: Tensor, own: Tensor | None) -> bool:
    if own is None or tensor.dim() != 4 or own.dim() != 4 or not tensor.is_floating_point():
        return False
    shape, wanted = list(tensor.shape), list(own.shape)
    return shape[1] == 3 and wanted[1] == 1 and shape[:1] + shape[2:] == wanted[:1] + wanted[2:]
