"""Choose the float type of an engine for layers that are not quantised: fp16 if the answers stay the same."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import Ranges
from imf_deploy.calib.score import content_logits
from imf_deploy.data import Split
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_form import Floats, half_form
from imf_deploy.export.half import LARGEST_HALF

IMAGES = 32
_LEAST_AGREEMENT = 0.9
# Activations of images that were not calibrated on may be twice as large.
_HEADROOM = 2


def choose_floats(
    model: FloatModel, ranges: Ranges, images: Split, check: Callable[[Path], object]
) -> Floats:
    """Return ``fp16`` if the fp16 form of an INT8 file answers as the file itself does, else ``fp32``.

    Rounding to fp16 changes an activation by at most a tenth of an INT8 step, so few images change their
    class. If the numbers of a network do not fit into fp16, many images change, or its logits are not finite.

    Args:
        model: The float model.
        ranges: Ranges of its activations.
        images: Images, of which ``IMAGES`` are run in ONNX Runtime.
        check: Raises an error if this machine's TensorRT rejects a file; not every version accepts fp16
            scales.
    """
    import onnx

    largest = max(max(-low, high) for low, high in ranges.values())
    if largest * _HEADROOM > LARGEST_HALF:
        return "fp32"
    content = quantize(model, ranges, "tensorrt")
    try:
        half = half_form(onnx.load_from_string(content)).SerializeToString()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "half.onnx"
            path.write_bytes(half)
            check(path)
    except ImfDeployError:
        return "fp32"
    few = images.subset(torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).long())
    answers, expected = (content_logits(form, model, few, keep_floats=True) for form in (half, content))
    same = (
        np.isfinite(answers).all()
        and model.preprocess.task.same(answers, expected).mean() >= _LEAST_AGREEMENT
    )
    return "fp16" if same else "fp32"
