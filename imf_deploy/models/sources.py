"""Build a network from its library, with fresh weights; nothing is ever downloaded."""

import contextlib
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models.huggingface import build_huggingface
from imf_deploy.models.names import Architecture
from imf_deploy.models.settings import INCEPTIONS
from imf_deploy.settings.network import NetworkSettings


def fixed_size(architecture: Architecture) -> bool:
    """Return whether a network is built for one image size, as vision transformers are.

    Such a network has no stem strides that could be changed.
    """
    if architecture.library == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture.name)
        return config is not None and bool(config.fixed_input_size)
    return architecture.library == "torchvision" and architecture.name.startswith(("vit_", "swin_", "maxvit"))


def build(
    architecture: Architecture, num_classes: int, image_size: int, settings: NetworkSettings = ()
) -> nn.Module:
    """Build a network.

    Args:
        architecture: What to build.
        num_classes: Number of logits.
        image_size: Side of the input in pixels, for networks that are built for one size.
        settings: Other arguments of the library's function, or of the user's.

    Raises:
        UsageError: the library cannot build it with these arguments.
        ImfDeployError: a function of the user's cannot be imported, fails, or does not return a network.
    """
    if architecture.library == "factory":
        return _from_factory(architecture.name, num_classes, image_size, settings)
    try:
        with warnings.catch_warnings(action="ignore"):  # advice to the author of the call
            network = _from_library(architecture, num_classes, image_size, settings)
    except ImfDeployError:
        raise
    except Exception as error:  # libraries check sizes by assertions and many kinds of errors
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(
            f"{architecture.name} cannot be built for images of {image_size} pixels ({reason})",
            "Choose another network, or an `image_size` that it supports",
        ) from error
    _calm_head(network, num_classes)
    return network


@torch.no_grad()
def _calm_head(network: nn.Module, num_classes: int) -> None:
    """Scale a fresh head down to the range of PyTorch's ``Linear`` if it is far above it (ours).

    TensorFlow's initialisation, which timm uses for EfficientNets, MNASNets and MobileNets, and torchvision
    for EfficientNets and MNASNets, draws from about +-1/sqrt(classes): right for ImageNet's 1,000, and ten
    times too wide for 10. The range of torchvision's MobileNets is narrow. The first gradients are then so
    large that the stem's weights grow tenfold at once. Batch norm hides this until fp16 overflows.
    """
    heads = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes]
    if not heads:
        return
    weight = heads[-1].weight
    spread = float(weight.square().mean().sqrt())
    # A uniform draw from +-1/sqrt(inputs) has this root mean square.
    usual = 1 / math.sqrt(3 * weight.shape[1])
    if spread > math.sqrt(3) * usual:
        weight.mul_(usual / spread)


def _from_library(
    architecture: Architecture, num_classes: int, image_size: int, settings: NetworkSettings
) -> nn.Module:
    name = architecture.name
    if architecture.library == "cifar":
        from imf_deploy.models.cifar import NETWORKS
        from imf_deploy.models.cifar.resnet import CifarResNet

        if architecture.width != 1:
            return CifarResNet(name, num_classes, architecture.width)
        return NETWORKS[name](num_classes)
    if architecture.library == "hf":
        return build_huggingface(name, num_classes, image_size)
    options: dict[str, Any] = {"num_classes": num_classes, **dict(settings)}
    if architecture.width != 1:
        options["width_mult"] = architecture.width
    if architecture.library == "timm":
        import timm

        if fixed_size(architecture):
            options["img_size"] = image_size
        return cast(nn.Module, timm.create_model(name, pretrained=False, **options))
    import torchvision

    if name in INCEPTIONS:  # with auxiliary heads, the output in training would be a tuple
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    return cast(nn.Module, torchvision.models.get_model(name, weights=None, **options))


def _from_factory(name: str, num_classes: int, image_size: int, settings: NetworkSettings) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    try:
        with _working_folder_last():
            factory: Any = getattr(importlib.import_module(module_name), function_name, None)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"there is no module for the model '{name}' ({error})",
            "Use package.module:factory, installed or in the working folder",
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise ImfDeployError(f"importing {module_name} failed ({type(error).__name__}: {error})") from error
    if not callable(factory):
        raise UsageError(f"{module_name} has no function '{function_name}'", "Use package.module:factory")
    options: dict[str, Any] = {**dict(settings), "num_classes": num_classes}
    if "image_size" in _parameters(factory):
        options["image_size"] = image_size
    try:
        with _working_folder_last():  # for imports inside the function
            network = factory(**options)
    except Exception as error:  # the user's code may raise anything
        raise ImfDeployError(
            f"{name}({', '.join(f'{k}={v}' for k, v in options.items())}) failed "
            f"({type(error).__name__}: {error})",
            "It is called with num_classes, and with image_size if it has that parameter",
        ) from error
    if not isinstance(network, nn.Module):
        raise ImfDeployError(f"{name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _parameters(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # a built-in function
        return set()


@contextlib.contextmanager
def _working_folder_last() -> Iterator[None]:
    """Let modules in the working folder be found, after all installed packages."""
    sys.path.append("")
    try:
        yield
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index("")]
