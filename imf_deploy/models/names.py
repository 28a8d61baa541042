"""Resolve a model's name: a library and one of its networks, or a function of the user's."""

import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from imf_deploy.errors import UsageError
from imf_deploy.models.cifar import NETWORKS
from imf_deploy.models.cifar.resnet import VARIANTS
from imf_deploy.models.huggingface import check_name

Library = Literal["torchvision", "timm", "hf", "cifar", "factory"]

SHORT_NAMES = {
    "mobilenetv2": "mobilenet_v2",
    "shufflenetv2": "shufflenet_v2_x1_0",
    "mobilenetv3": "mobilenet_v3_large",
}
"""Short names and the torchvision names they stand for."""

_WIDTH = re.compile(r"(\w+?)x(\d+(?:\.\d+)?)", re.ASCII)
NARROWEST, WIDEST = 0.1, 4.0
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Architecture:
    """A network that can be built.

    Attributes:
        library: The library that builds it; ``hf`` is Hugging Face's transformers, and ``factory`` is a
            function of the user's own.
        name: Its name in the library; a folder or repository for ``hf``, and ``package.module:factory`` for a
            function.
        width: Factor for all numbers of channels.
    """

    library: Library
    name: str
    width: float = 1.0


def resolve(name: str) -> Architecture:
    """Resolve ``torchvision:NAME``, ``timm:NAME``, ``hf:PATH``, ``cifar:NAME``, a bare name or a factory.

    A bare name is a short one (:data:`SHORT_NAMES`), a CIFAR ResNet such as ``resnet20``, or a classifier of
    torchvision. MobileNetV2 and the CIFAR ResNets also have thinner and wider forms, such as
    ``mobilenetv2x0.5`` and ``resnet20x0.5``. A factory is not imported here.

    Raises:
        UsageError: the name is unknown; the message shows the nearest names.
    """
    first, _, own = name.partition(":")
    if first in ("timm", "hf"):
        return (
            Architecture("timm", _timm_name(own)) if first == "timm" else Architecture("hf", check_name(own))
        )
    prefix, _, rest = name.rpartition(":")
    if prefix in ("torchvision", "cifar"):
        known = _torchvision_names() if prefix == "torchvision" else list(NETWORKS)
        if rest not in known:
            raise _unknown(name, [f"{prefix}:{near}" for near in known])
        return Architecture("torchvision" if prefix == "torchvision" else "cifar", rest)
    if _FACTORY.fullmatch(name):
        return Architecture("factory", name)
    # Bare names of ResNet-50 and the others are torchvision's.
    if name in SHORT_NAMES:
        return Architecture("torchvision", SHORT_NAMES[name])
    if name in VARIANTS or name in _torchvision_names():
        return Architecture("cifar" if name in VARIANTS else "torchvision", name)
    if (match := _WIDTH.fullmatch(name)) and match[1] in ("mobilenetv2", *VARIANTS):
        return _scaled(name, resolve(match[1]), float(match[2]))
    raise _unknown(name, [*SHORT_NAMES, *VARIANTS, *_torchvision_names()])


def _scaled(name: str, whole: Architecture, width: float) -> Architecture:
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(
            f"'{name}' has a width that cannot be used",
            f"Use one from {NARROWEST:g} to {WIDEST:g}, such as x0.5",
        )
    return Architecture(whole.library, whole.name, width)


def file_stem(name: str) -> str:
    """Return the stem of the names of a model's files: its name without library or package."""
    return re.sub(r"[^\w.-]+", "-", name.rpartition(":")[2])


def _unknown(name: str, names: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, names, 3, 0.4)
    return UsageError(
        f"unknown model '{name}'",
        f"Did you mean {' or '.join(near)}"
        if near
        else "Try mobilenetv2, shufflenetv2, resnet18 or resnet50, torchvision:NAME, timm:NAME, cifar:NAME, "
        "hf:PATH, or package.module:factory",
    )


@cache
def _torchvision_names() -> list[str]:
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def _timm_name(name: str) -> str:
    if importlib.util.find_spec("timm") is None:
        raise UsageError(
            f"'timm:{name}' needs the package timm, which is not installed",
            "Type: pip install 'imf-deploy[timm]'",
        )
    import timm

    # Names such as hf-hub:… would be fetched from the network.
    if not re.fullmatch(r"[\w.]+", name) or not timm.is_model(name):
        raise _unknown(f"timm:{name}", [f"timm:{near}" for near in timm.list_models()])
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag
        whole = name.partition(".")[0]
        known = [f"timm:{near}" for near in [whole, *timm.list_pretrained(f"{whole}.*")]]
        raise _unknown(f"timm:{name}", known) from error
    return name
