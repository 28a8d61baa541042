"""Find the blocks of any convolutional network, and cut the network after one of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError


@dataclass(frozen=True)
class Block:
    """A place in a network where its features can be tapped.

    Attributes:
        name: Path of the module whose output is tapped, such as ``features.6``.
        channels: Channels of that output.
        size: Height and width of that output, for the traced input.
    """

    name: str
    channels: int
    size: int


def find_blocks(model: nn.Module, image_size: int) -> list[Block]:
    """Return the end of the last block at each resolution of a network, in order.

    The network is run once (ours). At each resolution, of the modules that answer with a square
    map, those nearest the root of the module tree are the network's own blocks or stages; deeper
    ones are parts of a block, such as the expansion at the start of the next one. The last of the
    blocks is tapped. A resolution that only the first convolution has seen is a stem, not a block.

    Args:
        model: Any network that maps ``[N, 3, S, S]`` to logits; not changed.
        image_size: ``S`` in pixels.

    Raises:
        ImfDeployError: no map of features is found (not a convolutional network).
    """
    found: dict[int, Block] = {}
    names = {module: name for name, module in model.named_modules()}
    convolutions = 0

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal convolutions
        convolutions += isinstance(module, nn.Conv2d)
        if not isinstance(output, Tensor) or output.dim() != 4 or not names[module]:
            return
        _, channels, height, width = output.shape
        # Not square: channels last, inside a block. 1x1: the pooled head. Larger again: an
        # adaptive pooling that stretches.
        if height != width or width == 1 or convolutions < 2 or width > min(found, default=width):
            return
        known = found.get(width)
        if known is None or names[module].count(".") <= known.name.count("."):
            found[width] = Block(names[module], channels, width)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        probe(model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ImfDeployError(f"no blocks found in {type(model).__name__}", "Choose a convolutional network")
    return [found[size] for size in sorted(found, reverse=True)]


def probe(model: nn.Module, image_size: int) -> None:
    """Run a network once in evaluation mode, on its own device, for the hooks that are on it.

    Args:
        model: Left in the mode that it was in.
        image_size: Side of a black image in pixels.

    Raises:
        ImfDeployError: it cannot run on images of this size.
    """
    device = next(model.parameters()).device
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    except Exception as error:  # whatever the network's own code raises
        raise ImfDeployError(
            f"{type(model).__name__} cannot run on images of {image_size} pixels ({error})",
            "Choose a convolutional network, or another --image-size",
        ) from error
    finally:
        model.train(training)


def truncate(model: nn.Module, blocks: list[Block]) -> nn.Module:
    """Cut a network after the last of ``blocks``, without the modules that come later.

    Parameters keep their names; they are shared with ``model``, not copied.

    Returns:
        A module that maps images to a dict from each block's name to its output.

    Raises:
        ImfDeployError: torch.fx cannot trace the network.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    try:
        cut: nn.Module = create_feature_extractor(model, {block.name: block.name for block in blocks})
        return cut
    except Exception as error:  # torch.fx raises whatever the traced code raises
        raise ImfDeployError(
            f"cannot cut {type(model).__name__} after {blocks[-1].name} ({error})",
            "Leave imf@k out of --products",
        ) from error
