"""The proof that stripping changed nothing that is deployed and left nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.verification.ladder import Rung, first_broken


@dataclass(frozen=True)
class StripProof:
    """What was compared, what was removed, and whether it holds.

    Attributes:
        product: ``plain`` or ``imf@k``.
        ladder: Training graph to stripped, and for ``imf@k`` to folded; as it was read back.
        logits_identical: Whether logits before and after are the same bit for bit.
        max_abs_diff: Largest difference between logits before and after.
        images: How many images were compared.
        parameters_before: Of the training graph.
        parameters_after: Of the file.
        macs_before: Multiply-accumulates for one image, training graph.
        macs_after: The same for the file.
        removed: Modules of the training graph that are not in the file, and their parameters.
        keys_match: Whether the file's tensors are those of the architecture, no more and no less.
        teacher_tensors_found: Tensors of the file that are equal to one of the teacher's.
        attentive_tensors_found: Tensors of the file that are equal to the attentive weights.
    """

    product: str
    ladder: list[Rung]
    logits_identical: bool
    max_abs_diff: float
    images: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    removed: list[dict[str, Any]]
    keys_match: bool
    teacher_tensors_found: int
    attentive_tensors_found: int

    @property
    def broken(self) -> str:
        """What does not hold, in words; empty where everything does."""
        if rung := first_broken(self.ladder):
            return f"the rung '{rung.name}' breaks: {rung.reason}"
        if not self.keys_match:
            return "the tensors are not those of the architecture"
        if self.teacher_tensors_found or self.attentive_tensors_found:
            return "tensors of the teacher or attentive weights are in the file"
        return ""

    @property
    def passed(self) -> bool:
        """Whether every part of the proof holds."""
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Return the form that sidecars and reports hold."""
        return asdict(self) | {"passed": self.passed}


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable values of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, image_size: int) -> int:
    """Return the multiply-accumulates of convolutions and linear layers for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    training = module.training
    with torch.no_grad(), counter:
        module.eval()(torch.zeros(1, 3, image_size, image_size))
    module.train(training)
    return int(counter.get_total_flops()) // 2


def removed_modules(before: Mapping[str, Tensor], kept: set[str]) -> list[dict[str, Any]]:
    """Return modules of the training graph that have tensors outside ``kept``, with their sizes.

    Args:
        before: ``state_dict`` of the training graph.
        kept: Its keys that are in the product.
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
    return [{"module": module, "parameters": size} for module, size in sizes.items()]
