"""The layers of a classifier that give its logits."""

from torch import nn

_LAYERS = (nn.Linear, nn.Conv2d)


def head_modules(network: nn.Module, num_classes: int) -> list[nn.Module]:
    """Return the modules that give a network's logits; empty if none is found.

    timm's networks name them (``get_classifier``). In any other network it is the last linear layer or
    convolution whose outputs are as many as the classes.

    Args:
        network: ``[N, 3, S, S]`` -> logits ``[N, classes]``.
        num_classes: Number of logits.
    """
    named = getattr(network, "get_classifier", None)
    if callable(named):
        found = named()
        modules = list(found) if isinstance(found, list | tuple | nn.ModuleList) else [found]
        if heads := [m for m in modules if isinstance(m, nn.Module) and any(True for _ in m.parameters())]:
            return heads
    layers: list[nn.Module] = [
        m for m in network.modules() if isinstance(m, _LAYERS) and len(m.weight) == num_classes
    ]
    return layers[-1:]
