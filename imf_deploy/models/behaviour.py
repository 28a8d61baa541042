"""Check that a network can be deployed: its answers are the same each time, and for each image alone."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from imf_deploy.errors import UsageError
from imf_deploy.image_size import ImageSize, shape_of
from imf_deploy.models.blocks import device_of, in_evaluation, only_logits
from imf_deploy.tasks.classification import are_probabilities

_IMAGES = 4
_REPEATS = 3
# Fractions of the largest logit. Kernels for other batch sizes round differently, on GPUs in TF32.
_SAME, _ALIKE = 1e-4, 1e-2


def check_behaviour(model: nn.Module, image_size: ImageSize, name: str) -> None:
    """Refuse a network whose answers no file could reproduce, before anything is trained.

    Args:
        model: The network, on its own device; it is not changed.
        image_size: Size of the input.
        name: Name of the network in messages.

    Raises:
        UsageError: in evaluation mode the network changes its input, outputs numbers that are not finite or
            probabilities, answers differently each time, or its answers depend on the other images of the
            batch.
    """
    device = device_of(model)
    noise = torch.randn(_IMAGES, *shape_of(image_size), generator=torch.Generator().manual_seed(0))
    images = noise.to(device)
    with torch.no_grad(), in_evaluation(model), _awake(model):

        def answer(batch: Tensor) -> Tensor:
            given = batch.clone()
            # The copy is needed because some networks return a view of something that the next call
            # overwrites.
            logits = only_logits(model, model(given)).float().clone()
            if not torch.equal(given, batch):
                raise UsageError(
                    f"{name} changes its input in place, but other networks use the same images",
                    "Use operations that return a new tensor, such as x * 2 instead of x.mul_(2)",
                )
            return logits

        first, *others = [answer(images) for _ in range(_REPEATS)]
        alone = torch.cat([answer(image[None]) for image in images])
    if not all(bool(logits.isfinite().all()) for logits in (first, *others, alone)):
        raise UsageError(
            f"{name} outputs numbers that are not finite",
            "Check its weights, and its operations for a division by 0",
        )
    if are_probabilities(first.cpu().numpy()):
        raise UsageError(
            f"{name} outputs probabilities, not logits", "Remove its softmax: the losses apply their own"
        )
    scale = float(first.abs().max())
    if not all(float((other - first).abs().max()) <= _SAME * scale for other in others):
        raise UsageError(
            f"{name} answers differently each time in evaluation mode",
            "Disable dropout and noise outside training, as functional.dropout(x, p, self.training) does",
        )
    if not float((alone - first).abs().max()) <= _ALIKE * scale:
        raise UsageError(
            f"the answers of {name} depend on the other images of a batch",
            "Let batch norm keep running statistics (track_running_stats=True), and do not mix images",
        )


@contextlib.contextmanager
def _awake(model: nn.Module) -> Iterator[None]:
    """Fill weights that are all zero: such a fresh head or norm would hide the layers before it."""
    asleep = [p for n, p in model.named_parameters() if not n.endswith("bias") and not p.any()]
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in asleep:
            values = torch.rand(parameter.shape, generator=generator) - (0.5 if parameter.dim() > 1 else 0.0)
            parameter.copy_(values)
        yield
    finally:
        for parameter in asleep:
            parameter.zero_()
