"""Rank layers by the harm of quantising each one alone."""

import numpy as np

from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.quantize import layers_of, quantize
from imf_deploy.calib.ranges import Ranges
from imf_deploy.calib.score import content_logits, file_logits, score
from imf_deploy.data import Split
from imf_deploy.data.choice import choose_images
from imf_deploy.progress import track
from imf_deploy.records.making import LayerHarm
from imf_deploy.settings.quantize import Cpus, Target


def rank_layers(
    model: FloatModel,
    ranges: Ranges,
    target: Target,
    validation: Split,
    count: int,
    seed: int,
    cpus: Cpus = "all",
) -> list[LayerHarm]:
    """Return every layer that a target's form quantises, the most harmful first. Source: ours.

    Each layer is quantised with the ranges and in the form of the whole file, and run by the same session.
    Layers are ordered by divergence, because a few dozen images seldom change their class.

    Args:
        model: The float model.
        ranges: Ranges of its activations.
        target: Form of the Q/DQ.
        validation: Images that were not used for calibration.
        count: Maximum number of images to use.
        seed: Seed of their choice.
        cpus: Processors that the file is for.
    """
    images = choose_images(validation, min(count, len(validation)), seed)
    labels = images.labels.numpy()
    reference = file_logits(model.artifact.path, model, images)
    harms = []
    layers = layers_of(model, target)
    with track("Ranking layers by sensitivity", len(layers)) as advance:
        for layer in layers:
            content = quantize(model, ranges, target, only=layer, cpus=cpus)
            result = score(content_logits(content, model, images), reference, labels, model.preprocess.task)
            # A layer that breaks the network altogether comes first, not nowhere.
            divergence = result.divergence if np.isfinite(result.divergence) else float("inf")
            harms.append(LayerHarm(layer.name, layer.op_type, divergence, result.mse, result.agreement))
            advance(1)
    return sorted(harms, key=lambda harm: -harm.divergence)
