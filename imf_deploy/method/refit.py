"""Re-fit linear heads after training, on features that no longer change (ours)."""

import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy.settings import LossSettings

ITERATIONS = 100


def refit(
    features: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    start: tuple[Tensor, Tensor],
    weights: LossSettings,
    label_smoothing: float = 0.0,
    importance: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise the loss of one head over its weight and bias only.

    The loss is that of the student's own head, ``CE + beta * KL``, over all images at once. It is convex, and
    a short training by gradient steps ends far from its minimum; L-BFGS (Liu and Nocedal 1989) comes close in
    seconds. The number of its iterations is the only regularisation.

    Args:
        features: Input of the head, ``[N, D]``.
        teacher_logits: ``[N, classes]``.
        labels: ``int64 [N]``.
        start: Initial weight ``[classes, D]`` and bias ``[classes]``; not changed.
        weights: ``beta`` and the temperature.
        label_smoothing: Fraction of a label's weight that all classes share.
        importance: Weight of each image in the cross-entropy, ``[N]``, with a mean of 1.

    Returns:
        Weight and bias. If the loss is not finite, the initial values are returned.
    """
    weight, bias = (value.detach().clone().float().requires_grad_() for value in start)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )
    # Classes are rows: a softmax over so few columns takes twenty times as long.
    inputs, count = features.t().contiguous(), len(labels)
    right = functional.one_hot(labels, len(weight)).t().float()
    right = right * (1 - label_smoothing) + label_smoothing / len(weight)
    if importance is not None:
        right = right * importance
    taught = (teacher_logits.t().float() / weights.temperature).log_softmax(0)
    likely = taught.exp()

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(bias[:, None], weight, inputs)
        softened = (logits / weights.temperature).log_softmax(0)
        loss = (likely * (taught - softened)).sum() * (weights.beta / count)
        loss = loss - (right * logits.log_softmax(0)).sum() / count
        if not loss.isfinite():
            raise FloatingPointError  # the line search cannot handle it
        torch.autograd.backward(loss)
        return loss

    try:
        with torch.enable_grad():
            # PyTorch does not annotate step.
            optimizer.step(closure)  # type: ignore[no-untyped-call]
    except FloatingPointError:
        return start
    return weight.detach(), bias.detach()
