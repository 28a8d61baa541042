"""Linear heads that can be re-fitted: find them, read their inputs, and replace their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from imf_deploy.method.branches import TrainingGraph
from imf_deploy.method.fold import folded_classifier
from imf_deploy.models import only_logits
from imf_deploy.models.blocks import hooked


@dataclass(frozen=True)
class Head:
    """A linear head that can be re-fitted.

    Attributes:
        name: Product whose logits it gives: ``plain`` or ``imf@k``.
        source: Name of its features.
        start: Weight ``[classes, D]`` and bias ``[classes]``; they use the first ``D`` columns of the
            features.
        keep: Replaces weight and bias.
    """

    name: str
    source: str
    start: tuple[Tensor, Tensor]
    keep: Callable[[Tensor, Tensor], None]


class OwnHead:
    """The linear layer that gives a network's logits, and its input.

    It is the layer whose output is the logits, whatever its name. A layer that runs more than once for a
    batch is not used, because its input depends on its weights.

    Args:
        network: The network, which gets a hook that :meth:`close` removes.
        images: A batch to find the layer with, ``[N, C, H, W]``.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.linear: nn.Linear | None = None
        self.features = torch.empty(0)
        outputs: list[tuple[nn.Linear, Tensor]] = []

        def note(module: nn.Linear, _inputs: object, output: Tensor) -> None:
            # A copy is needed because an activation after the layer may write into its output.
            outputs.append((module, output.clone()))

        linear = (m for m in network.modules() if isinstance(m, nn.Linear) and m.bias is not None)
        with torch.no_grad(), hooked(module.register_forward_hook(note) for module in linear):
            logits = only_logits(network, network(images))
        self._hook = None
        ran = [module for module, _ in outputs]
        for module, output in outputs:
            if ran.count(module) == 1 and torch.equal(output, logits):
                self.linear = module
        if self.linear is not None:
            self._hook = self.linear.register_forward_pre_hook(self._see)

    def _see(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].float()

    def head(self) -> list[Head]:
        """Return the head; empty if the logits do not come from a linear layer."""
        if self.linear is None:
            return []
        return [Head("plain", "own", (self.linear.weight, self.linear.bias), partial(put, self.linear))]

    def close(self) -> None:
        """Remove the hook from the network."""
        if self._hook:
            self._hook.remove()


@torch.no_grad()
def put(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Write a weight and a bias into a layer."""
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)


def branch_heads(graph: TrainingGraph) -> list[Head]:
    """Return the head of every ``imf@k``, which starts as its folded attentive logit.

    Until one is kept, the attentive logits are used again, even if they had been replaced before.
    """
    branches = graph.imf

    def keep(k: int, weight: Tensor, bias: Tensor) -> None:
        put(branches.add_prefix_head(k), weight, bias)

    branches.make_room(())
    count = range(1, branches.members + 1)
    return [Head(f"imf@{k}", "branches", folded_classifier(branches, k), partial(keep, k)) for k in count]
