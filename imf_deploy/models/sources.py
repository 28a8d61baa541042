"""Build a network from its library, with fresh weights; nothing is ever downloaded."""

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import ImageSize, pixels_text, shape_of, short_size
from imf_deploy.models.channels import with_one_channel
from imf_deploy.models.huggingface import build_huggingface
from imf_deploy.models.names import Architecture
from imf_deploy.models.settings import INCEPTIONS
from imf_deploy.own_code import load_function, working_folder_last
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
    architecture: Architecture, num_classes: int, image_size: ImageSize, settings: NetworkSettings = ()
) -> nn.Module:
    """Build a network.

    Args:
        architecture: What to build.
        num_classes: Number of logits.
        image_size: Size of the input. The sides are for networks that are built for one size. With one
            channel, the first convolution has one input channel.
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
            f"{architecture.name} cannot be built for images of {pixels_text(image_size)} ({reason})",
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
    architecture: Architecture, num_classes: int, image_size: ImageSize, settings: NetworkSettings
) -> nn.Module:
    name, (channels, height, width) = architecture.name, shape_of(image_size)
    if architecture.library == "cifar":
        from imf_deploy.models.cifar import NETWORKS
        from imf_deploy.models.cifar.resnet import CifarResNet

        scaled = architecture.width != 1
        network = (
            CifarResNet(name, num_classes, architecture.width) if scaled else NETWORKS[name](num_classes)
        )
        return network if channels == 3 else with_one_channel(network)
    if architecture.library == "hf":
        return build_huggingface(name, num_classes, (channels, height, width))
    options: dict[str, Any] = {"num_classes": num_classes, **dict(settings)}
    if architecture.width != 1:
        options["width_mult"] = architecture.width
    if architecture.library == "timm":
        import timm

        if fixed_size(architecture):
            options["img_size"] = short_size((height, width))
        if channels != 3:
            options["in_chans"] = channels
        return cast(nn.Module, timm.create_model(name, pretrained=False, **options))
    import torchvision

    if name in INCEPTIONS:  # with auxiliary heads, the output in training would be a tuple
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        if height != width:
            raise ValueError("it takes square images only")
        options["image_size"] = height
    if name.startswith("maxvit"):
        options["input_size"] = (height, width)
    built = cast(nn.Module, torchvision.models.get_model(name, weights=None, **options))
    return built if channels == 3 else with_one_channel(built)


def _from_factory(name: str, num_classes: int, image_size: ImageSize, settings: NetworkSettings) -> nn.Module:
    factory = load_function(name, "model", "package.module:factory")
    options: dict[str, Any] = {**dict(settings), "num_classes": num_classes}
    channels, height, width = shape_of(image_size)
    taken = _parameters(factory)
    if "image_size" in taken:
        options["image_size"] = short_size((height, width))
    if "channels" in taken:
        options["channels"] = channels
    try:
        with working_folder_last():  # for imports inside the function
            network = factory(**options)
    except Exception as error:  # the user's code may raise anything
        raise ImfDeployError(
            f"{name}({', '.join(f'{k}={v}' for k, v in options.items())}) failed "
            f"({type(error).__name__}: {error})",
            "It is called with num_classes, and with image_size and channels if it has these parameters",
        ) from error
    if not isinstance(network, nn.Module):
        raise ImfDeployError(f"{name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _parameters(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # a built-in function
        return set()
