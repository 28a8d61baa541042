"""A moving average of weights (Polyak and Juditsky 1992), separate from the network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Averages every floating tensor of a ``state_dict``; counters are copied.

    The network is not copied as a module, because hooks of a copy would belong to the original.

    Args:
        module: Module whose weights are averaged; the average starts with their current values.
        decay: Fraction of the average that is kept at each step. The first steps keep less, ``(1 + n) / (10 +
            n)`` at step n as in TensorFlow, so that short trainings do not keep their random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        fresh = module.state_dict()
        self.state: dict[str, Tensor] = {n: t.detach().clone() for n, t in fresh.items()}
        floating = [name for name, tensor in fresh.items() if tensor.is_floating_point()]
        counters = [name for name in fresh if name not in set(floating)]
        # Weights and buffers of a module keep their identity: they are changed in place.
        self._floating = [self.state[n] for n in floating], [fresh[n].detach() for n in floating]
        self._counters = [self.state[n] for n in counters], [fresh[n].detach() for n in counters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after ``step`` (from 0) to the average."""
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)
        decay = min(self._decay, (1 + step) / (10 + step))
        # PyTorch does not annotate the returned function.
        get_ema_multi_avg_fn(decay)(*self._floating, None)  # type: ignore[no-untyped-call]

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a saved average."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @contextmanager
    def in_place_of(self, module: nn.Module) -> Iterator[None]:
        """Put the average into the network; its own weights are restored at the end."""
        own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self.state)
        try:
            yield
        finally:
            module.load_state_dict(own)
