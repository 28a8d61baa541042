"""Steps beyond measured ranges, each kept only if the answers on validation images come closer to float."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from imf_deploy.calib.equalise import equalise
from imf_deploy.calib.layer_inputs import measure_inputs
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.quantize import bounded_weights, quantize
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.calib.rounding import Rounding, round_layers
from imf_deploy.calib.score import content_logits, file_logits, network_inputs
from imf_deploy.data import Split
from imf_deploy.data.choice import choose_images
from imf_deploy.records.making import Step
from imf_deploy.settings import QuantizeSettings
from imf_deploy.settings.quantize import Method

_IMAGES = 128
"""Calibration images whose layer inputs are measured, unless the effort is ``best``."""
_JUDGED = {"normal": 256, "best": 1024}
"""Maximum number of validation images on which steps are judged."""


@dataclass(frozen=True, eq=False)
class Form:
    """What an INT8 file is written from.

    Attributes:
        model: The float model.
        ranges: Ranges of its activations.
        method: How they were chosen.
        rounding: Weights that are rounded already.
    """

    model: FloatModel
    ranges: Ranges
    method: Method
    rounding: Rounding | None = None


_Change = Callable[[Form], Form | None]


def improve(
    form: Form, images: Split, validation: Split, config: QuantizeSettings
) -> tuple[Form, list[Step]]:
    """Return the form after every step that helped, and what each step did.

    A step helps if it lowers the mean KL divergence from the float model's answers.

    Args:
        form: The form that ranges alone give.
        images: The calibration images.
        validation: Images that were not used for calibration.
        config: Target and effort.
    """
    count = min(_JUDGED[config.effort], len(validation))
    inputs = list(network_inputs(form.model, choose_images(validation, count, config.seed)))
    reference = file_logits(form.model.artifact.path, form.model, inputs)

    def judge(form: Form) -> float:
        content = write(form, config)
        answers = content_logits(content, form.model, inputs)
        found = float(form.model.preprocess.task.divergence(answers, reference).mean())
        return found if math.isfinite(found) else math.inf

    best, done = judge(form), []
    for name, change in _steps(images, config).items():
        tried = change(form)
        if tried is None:
            continue
        divergence = judge(tried)
        done.append(Step(name, best, divergence, divergence < best))
        if divergence < best:
            form, best = tried, divergence
    return form, done


def write(
    form: Form,
    config: QuantizeSettings,
    excluded: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Return the INT8 file of a form; see :func:`imf_deploy.calib.quantize.quantize`."""
    return quantize(
        form.model,
        form.ranges,
        config.target,
        excluded,
        metadata=metadata,
        cpus=config.int8_cpus,
        rounding=form.rounding,
    )


def _steps(images: Split, config: QuantizeSettings) -> dict[str, _Change]:
    """Return the steps of an effort by name, in their order."""
    count = len(images) if config.effort == "best" else min(_IMAGES, len(images))
    some = choose_images(images, count, config.seed)
    bounded = config.target == "onnxruntime-cpu" and config.int8_cpus == "all"

    def clip(form: Form) -> Form | None:
        if form.method != "minmax":
            return None
        return replace(form, ranges=measure_ranges(form.model, images, "mse"), method="mse")

    def scale_channels(form: Form) -> Form | None:
        scaled = equalise(form.model, images)
        if scaled is None:
            return None
        changed = replace(form, model=scaled, ranges=measure_ranges(scaled, images, form.method))
        return round_by_inputs(changed) or changed

    def round_by_inputs(form: Form) -> Form | None:
        scales = bounded_weights(form.model) if bounded else {}
        rounding = round_layers(measure_inputs(form.model, some), scales)
        return replace(form, rounding=rounding) if rounding else None

    rounding: dict[str, _Change] = {"rounding": round_by_inputs}
    if config.effort == "normal":
        return rounding
    # Equalised channels may need weights of more different sizes, which only rounding by inputs bears.
    return {"ranges": clip, **rounding, "equalisation": scale_channels}
