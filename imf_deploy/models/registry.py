"""Build a classifier by name, with strides that suit the size of its pictures."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models.blocks import probe
from imf_deploy.models.cifar_resnet import VARIANTS, CifarResNet

# Below this side, ImageNet's strides leave nothing to look at.
SMALL_IMAGE = 64
# RepDistiller's MobileNetV2 on CIFAR-100 uses these, and they keep a CPU fast.
SMALL_STRIDES = (2, 1)

SHORT_NAMES = {
    "mobilenetv2": "mobilenet_v2",
    "shufflenetv2": "shufflenet_v2_x1_0",
    "mobilenetv3": "mobilenet_v3_large",
}
"""Short names and the torchvision names they stand for."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to build an architecture again.

    Attributes:
        name: A short name, a name of torchvision, or one of the CIFAR networks.
        num_classes: Number of logits.
        image_size: Side of the input in pixels; decides ``stem_strides`` when the spec is made.
        stem_strides: Strides at the first resolutions that the network reduces; empty leaves the
            library's own. Parameters keep their names and shapes whatever the strides.
    """

    name: str
    num_classes: int
    image_size: int
    stem_strides: tuple[int, ...] = ()

    @classmethod
    def for_images(
        cls, name: str, num_classes: int, image_size: int, stem_strides: tuple[int, ...] | None = None
    ) -> ModelSpec:
        """Choose the stem strides: as given, or by the size of the pictures.

        Raises:
            UsageError: no such model.
        """
        name = known_name(name)
        if stem_strides is None:
            small = image_size < SMALL_IMAGE and name not in VARIANTS
            stem_strides = SMALL_STRIDES if small else ()
        return cls(name, num_classes, image_size, stem_strides)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"stem_strides": list(self.stem_strides)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelSpec:
        """Read the form of :meth:`to_dict`.

        Raises:
            ImfDeployError: a field is missing or has the wrong form.
        """
        try:
            return cls(
                str(content["name"]),
                int(content["num_classes"]),
                int(content["image_size"]),
                tuple(int(s) for s in content["stem_strides"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ImfDeployError(f"the record of the model is damaged ({error})") from error


def _torchvision_names() -> list[str]:
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def known_name(name: str) -> str:
    """Return ``name`` if a model of this name can be built.

    Raises:
        UsageError: it cannot; the message shows the nearest names.
    """
    names = [*SHORT_NAMES, *VARIANTS, *_torchvision_names()]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 3, 0.4)
    raise UsageError(
        f"unknown model '{name}'",
        f"Did you mean {' or '.join(near)}"
        if near
        else "Try mobilenetv2, shufflenetv2, resnet18 or resnet50",
    )


def build_model(spec: ModelSpec) -> nn.Module:
    """Build the architecture with fresh weights: ``[N, 3, S, S]`` -> logits ``[N, classes]``.

    Raises:
        UsageError: no such model.
    """
    name = known_name(spec.name)
    if name in VARIANTS:
        model: nn.Module = CifarResNet(name, spec.num_classes)
    else:
        import torchvision

        build: Callable[..., nn.Module] = torchvision.models.get_model
        model = build(SHORT_NAMES.get(name, name), weights=None, num_classes=spec.num_classes)
    if spec.stem_strides:
        set_stem_strides(model, spec.stem_strides, spec.image_size)
    return model.to(memory_format=torch.channels_last)


_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def set_stem_strides(model: nn.Module, strides: tuple[int, ...], image_size: int) -> None:
    """Replace the strides at the first resolutions that a network reduces.

    All strided operators that read the same resolution belong together (a block's main path and
    its shortcut), so a traced run groups them; no network needs code of its own.

    Args:
        model: Changed in place.
        strides: One stride, 1 or 2, for each of the first reductions.
        image_size: Side of the input in pixels.

    Raises:
        UsageError: the network has fewer reductions than strides are given.
    """
    levels: dict[int, list[Any]] = {}

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        stride = module.stride if isinstance(module.stride, tuple) else (module.stride,)
        if max(stride) > 1:
            levels.setdefault(inputs[0].shape[-1], []).append(module)

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, _STRIDED)]
    try:
        # Large enough that every reduction shows as another width, whatever the size of the pictures.
        probe(model, max(image_size, 256))
    finally:
        for hook in hooks:
            hook.remove()
    if len(levels) < len(strides):
        raise UsageError(
            f"--stem-strides has {len(strides)} values, but the network reduces its input {len(levels)} times"
        )
    for width, stride in zip(sorted(levels, reverse=True), strides, strict=False):
        for module in levels[width]:
            module.stride = (stride, stride)
