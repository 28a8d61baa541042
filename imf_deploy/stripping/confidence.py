"""Calibrated confidences: a temperature from validation images, folded into the last layer of a product."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import logits_of
from imf_deploy.errors import GateError, ImfDeployError, UsageError
from imf_deploy.models.blocks import hooked, in_evaluation, only_logits
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.records.making import Confidence
from imf_deploy.tasks.classification import same_class
from imf_deploy.tasks.metric import ECE, NLL
from imf_deploy.tasks.temperature import HIGHEST, LOWEST, fit_temperature
from imf_deploy.verification.ladder import Array

_DIGITS = 4
"""Significant digits of a temperature."""
_NUDGES = (1.0, 1.001, 0.999, 1.002, 0.998)
"""Factors that are tried in turn, until rounding moves no image between two classes that nearly tie."""


def check_validation(data: DataSet) -> None:
    """Refuse data on which no temperature can be fitted.

    Raises:
        UsageError: there are no validation images.
    """
    if not len(data.validation):
        raise UsageError(
            "`calibrate_confidence` needs validation images, but there are none", "Raise `val_fraction`"
        )


def last_linear(network: nn.Module, preprocess: Preprocess, name: str) -> str:
    """Return the name of the linear layer whose output is that of a network.

    Args:
        network: ``[N, C, H, W]`` -> logits.
        preprocess: Has the shape of the input.
        name: Name of the network in messages.

    Raises:
        UsageError: there is none, or its weights are also used elsewhere.
        ImfDeployError: the network does not output logits.
    """
    images = torch.randn(2, *preprocess.shape, generator=torch.Generator().manual_seed(0))
    layers = {
        n: m for n, m in network.named_modules() if isinstance(m, nn.Linear) and "weight" in m._parameters
    }
    outputs: list[tuple[str, Tensor]] = []

    def keep(layer: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs.append((layer, output))

    with in_evaluation(network):
        with hooked(module.register_forward_hook(partial(keep, layer)) for layer, module in layers.items()):
            logits = only_logits(network, run_with(network, {}, images))
        if outputs and torch.equal(outputs[-1][1].flatten(), logits.flatten()):
            layer = outputs[-1][0]
            # Halving is exact, so the layer that alone computes the logits halves them to the bit.
            half = {f"{layer}.{key}": value / 2 for key, value in layers[layer].state_dict().items()}
            if torch.equal(run_with(network, half, images) * 2, logits):
                return layer
    raise UsageError(
        f"the last layer of {name} is not linear, so no temperature can be folded into it",
        "Leave out `calibrate_confidence`, or use another student",
    )


def calibrate_confidence(network: nn.Module, data: DataSet, name: str) -> Confidence:
    """Divide the last layer of a product by the temperature that fits its validation images, in place.

    The class of every validation image stays the same.

    Args:
        network: The product, on the CPU, in evaluation mode.
        data: Data with a validation split.
        name: Name of the product in messages.

    Raises:
        UsageError: there are no validation images, or the last layer is not linear.
        GateError: an image would get another class.
        ImfDeployError: a logit is not finite.
    """
    check_validation(data)
    before, labels = _logits(network, data), data.validation.labels.numpy()
    if not np.isfinite(before).all():
        raise ImfDeployError(
            f"some logits of {name} are not finite on the validation images",
            "Train with a lower learning rate",
        )
    place = last_linear(network, data.preprocess, name)
    layer = network.get_submodule(place)
    tensors = {key: value.clone() for key, value in layer.state_dict().items()}
    best = fit_temperature(before, labels)
    for nudge in _NUDGES:
        temperature = float(f"{best * nudge:.{_DIGITS}g}")
        layer.load_state_dict(divided(tensors, temperature))
        after = _logits(network, data)
        if same_class(after, before).all():
            break
    else:
        layer.load_state_dict(tensors)
        raise GateError(
            f"calibrating the confidences of {name} would change the class of an image",
            "Leave out `calibrate_confidence`",
        )
    if not LOWEST * 1.01 < temperature < HIGHEST / 1.01:
        say(
            f"Warning: the temperature of {name} is at its bound, {temperature:g}: its validation images are "
            f"{'all right' if temperature < 1 else 'guessed'}, and say nothing of its confidences",
            logging.WARNING,
        )
    task, classes = data.preprocess.task, data.preprocess.labels
    (nll, _), (ece, _) = task.scores([NLL.name, ECE.name], before, labels, classes)
    (new_nll, _), (new_ece, _) = task.scores([NLL.name, ECE.name], after, labels, classes)
    return Confidence(place, temperature, len(labels), nll, new_nll, ece, new_ece)


def divided(tensors: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Return weight and bias of a layer whose output is divided by a temperature."""
    return {key: (value.double() / temperature).to(value.dtype) for key, value in tensors.items()}


def run_with(network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits of a network with other values of some tensors; it is not changed."""
    with torch.inference_mode():
        logits: Tensor = functional_call(network, dict(tensors), images)
    return logits


def _logits(network: nn.Module, data: DataSet) -> Array:
    logits: Array = logits_of(network, data.validation, data.preprocess, torch.device("cpu")).numpy()
    return logits
