"""Change the stem strides of a network, so that small images keep large enough maps."""

from typing import Any

from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import ImageSize, shape_of, short
from imf_deploy.models.blocks import hooked, probe

_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def set_stem_strides(model: nn.Module, strides: tuple[int, ...], image_size: ImageSize) -> None:
    """Replace the strides at the first resolutions that a network reduces.

    All strided operators that read the same resolution belong together (a block's main path and its
    shortcut), so they are grouped by a traced run; no network needs its own code.

    Args:
        model: The network, changed in place.
        strides: One stride, 1 or 2, for each of the first reductions.
        image_size: Size of the input.

    Raises:
        UsageError: the network has fewer reductions than there are strides, or accepts only one size.
    """
    levels: dict[int, list[Any]] = {}

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        stride = module.stride if isinstance(module.stride, tuple) else (module.stride,)
        if max(stride) > 1:
            levels.setdefault(inputs[0].shape[-1], []).append(module)

    strided = (m for m in model.modules() if isinstance(m, _STRIDED))
    try:
        # Large enough that every reduction gives another width, whatever the size of the images.
        with hooked(module.register_forward_pre_hook(note) for module in strided):
            channels, height, width = shape_of(image_size)
            probe(model, short((channels, max(height, 256), max(width, 256))))
    except ImfDeployError as error:
        raise UsageError(
            f"the strides of {type(model).__name__} cannot be found ({error.what})",
            "Leave `stem_strides` out, or choose another network",
        ) from error
    if len(levels) < len(strides):
        raise UsageError(
            f"`stem_strides` has {len(strides)} values, but the network reduces its input "
            f"{len(levels)} times",
            "Give one for each reduction, such as `stem_strides` 1",
        )
    for width, stride in zip(sorted(levels, reverse=True), strides, strict=False):
        for module in levels[width]:
            module.stride = (stride, stride)
