"""PyTorch's random state, used by dropout: seeded every epoch, saved and restored within an epoch.

Numbers that a step draws differ between processes. Numbers that change weights directly must be the same in
all processes (:func:`imf_deploy.training.distributed.share`), and must be drawn on the device of the tensors:
a CUDA graph cannot repeat a draw on the host.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from imf_deploy.processes import rank


def seed_generators(seed: int, epoch: int, step: int = 0) -> None:
    """Seed every generator; each process, epoch and step has its own numbers."""
    # Odd factors below 2^32: the CPU's generator uses only the lowest 32 bits of a seed.
    mixed = seed * 1_000_003 + epoch + rank() * 0x9E3779B1 + step * 0x85EBCA77
    torch.manual_seed(mixed % (1 << 63))


def generator_state(device: torch.device) -> Tensor:
    """Return the state of this process's generators, ``uint8 [bytes]``."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_generator_state(
    states: Sequence[Tensor], device: torch.device, seed: int, epoch: int, step: int
) -> None:
    """Restore this process's state; a process without a saved state is seeded again."""
    if rank() >= len(states):
        seed_generators(seed, epoch, step)
        return
    state = states[rank()]
    length = len(torch.get_rng_state())
    torch.set_rng_state(state[:length])
    if device.type == "cuda" and len(state) > length:
        torch.cuda.set_rng_state(state[length:], device)
