"""What a network has cost at each of its modules: multiply-accumulates and parameters so far."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from imf_deploy.image_size import ImageSize
from imf_deploy.models.blocks import hooked, probe


@dataclass(frozen=True)
class Cost:
    """The size of a network or of a part of one.

    Attributes:
        macs: Multiply-accumulates of convolutions and linear layers for one image.
        parameters: Number of trainable values.
    """

    macs: int = 0
    parameters: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both parts."""
        return Cost(self.macs + other.macs, self.parameters + other.parameters)

    def within(self, other: Cost, part: float = 1.0) -> bool:
        """Return whether neither number is larger than ``part`` of the other's."""
        return self.macs <= part * other.macs and self.parameters <= part * other.parameters


def prefix_costs(model: nn.Module, image_size: ImageSize) -> tuple[Cost, dict[str, Cost]]:
    """Run a network once and count what it has used whenever a module returns.

    A network that is cut after a module costs at most that: branches that later modules need may have run
    before it.

    Args:
        model: The network; not changed.
        image_size: Size of the input.

    Returns:
        The cost of the whole network, and the cost up to each module by name, in the order of their ends. For
        a module that runs several times, the last end counts.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    names = {module: name for name, module in model.named_modules()}
    used: dict[int, int] = {}
    costs: dict[str, Cost] = {}

    def begin(module: nn.Module, _inputs: object) -> None:
        used.update({id(p): p.numel() for p in module.parameters(recurse=False)})

    def end(module: nn.Module, _inputs: object, _output: object) -> None:
        # Some modules use the weights of their parts without calling them.
        used.update({id(p): p.numel() for p in module.parameters()})
        costs.pop(names[module], None)
        costs[names[module]] = Cost(int(counter.get_total_flops()) // 2, sum(used.values()))

    modules = list(names)
    handles = [module.register_forward_pre_hook(begin) for module in modules]
    handles += [module.register_forward_hook(end) for module in modules]
    with hooked(handles), counter:
        probe(model, image_size)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(int(counter.get_total_flops()) // 2, parameters), costs
