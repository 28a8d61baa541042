"""The proof that stripping changed nothing that is deployed and left nothing behind."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from imf_deploy.image_size import ImageSize, shape_of
from imf_deploy.records.checks import Removed


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable values of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, image_size: ImageSize) -> int:
    """Return the multiply-accumulates of convolutions and linear layers for one image of a size."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    training = module.training
    with torch.no_grad(), counter:
        module.eval()(torch.zeros(1, *shape_of(image_size)))
    module.train(training)
    return int(counter.get_total_flops()) // 2


def removed_modules(before: Mapping[str, Tensor], kept: set[str]) -> list[Removed]:
    """Return modules of the training graph that have tensors outside ``kept``, with their sizes.

    Args:
        before: ``state_dict`` of the training graph.
        kept: Keys of it that are in the product.
    """
    sizes: dict[str, int] = {}
    for name, tensor in before.items():
        if (
            name not in kept
            and tensor.is_floating_point()
            and not name.endswith(("running_mean", "running_var"))
        ):
            module = ".".join(name.split(".")[:3])
            sizes[module] = sizes.get(module, 0) + tensor.numel()
    return [Removed(module, size) for module, size in sizes.items()]
