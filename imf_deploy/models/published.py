"""Weights that torchvision and timm publish: found by name, and downloaded only if they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from imf_deploy.errors import ImfDeployError, UsageError, first_line
from imf_deploy.forms import read_typed
from imf_deploy.image_size import ImageSize, shape_of
from imf_deploy.limits import LARGEST_SIDE, LONGEST, MOST_CLASSES
from imf_deploy.models.caches import from_hub, from_url
from imf_deploy.models.names import Architecture
from imf_deploy.models.settings import INCEPTIONS
from imf_deploy.models.sources import fixed_size
from imf_deploy.preparation import Interpolation, Preparation
from imf_deploy.settings.network import NetworkSettings
from imf_deploy.untrusted import shorten

PRETRAINED = "pretrained"
HUB = "hf-hub:"
# timm passes these settings on itself.
_SHAPE = {"num_classes", "in_chans", "img_size"}


@dataclass(frozen=True)
class Published:
    """Published weights of an architecture.

    Attributes:
        source: Name of the weights, such as ``torchvision MobileNet_V2_Weights.IMAGENET1K_V2``.
        license: Tag of their licence; ``None`` if the library does not state it.
        preparation: How they expect images to be prepared; ``None`` if that is not known.
        fetch: Returns their file in the library's cache, downloaded if it is missing.
        read: Builds the library's network from the file and returns its whole ``state_dict``; ``None`` if the
            file holds one. Arguments are the file, the image size and other settings of the network.
        labels: Classes that they were trained for, in the order of the logits; empty if that is not known.
    """

    source: str
    license: str | None
    preparation: Preparation | None
    fetch: Callable[[], Path]
    read: Callable[[Path, ImageSize, NetworkSettings], Mapping[str, Tensor]] | None = None
    labels: tuple[str, ...] = ()


def is_published(text: str) -> bool:
    """Return whether a text names published weights, and not a file."""
    return text == PRETRAINED or text.startswith((f"{PRETRAINED}:", HUB))


def find_published(text: str, architecture: Architecture) -> Published:
    """Find published weights; nothing is downloaded, except the description of ``hf-hub:`` weights.

    Args:
        text: ``pretrained``, ``pretrained:TAG``, or ``hf-hub:OWNER/NAME``, optionally with ``@REVISION``.
        architecture: The network that starts from them.

    Raises:
        UsageError: the library publishes no such weights for this network.
        ImfDeployError: the description of ``hf-hub:`` weights cannot be read.
    """
    if architecture.library in ("cifar", "factory") or architecture.width != 1:
        raise UsageError(
            f"no weights are published for {architecture.name}"
            + (f" at width {architecture.width:g}" if architecture.width != 1 else ""),
            "Use a file, or a network of torchvision or timm",
        )
    if text.startswith(HUB):
        return _of_hub(text.removeprefix(HUB), architecture)
    tag = text.removeprefix(PRETRAINED).removeprefix(":")
    return (
        _of_torchvision(tag, architecture)
        if architecture.library == "torchvision"
        else _of_timm(tag, architecture)
    )


def _of_torchvision(tag: str, architecture: Architecture) -> Published:
    import torchvision

    known = torchvision.models.get_model_weights(architecture.name)
    if tag and tag not in known.__members__:
        raise _unknown_tag(tag, architecture, list(known.__members__))
    chosen = known[tag] if tag else known.DEFAULT
    prepare = chosen.transforms()
    mean, std = tuple(prepare.mean), tuple(prepare.std)
    if architecture.name in INCEPTIONS:
        # Their files expect ImageNet's statistics, and `transform_input` converts them to these.
        mean = std = (0.5, 0.5, 0.5)
    size, scaled = prepare.crop_size[0], prepare.resize_size[0]
    return Published(
        f"torchvision {known.__name__}.{chosen.name}",
        None,
        Preparation(size, size / scaled, mean, std, prepare.interpolation.value),
        lambda: from_url(chosen.url),
    )


def _of_timm(tag: str, architecture: Architecture) -> Published:
    import timm

    name, _, own_tag = architecture.name.partition(".")
    if tag and own_tag and tag != own_tag:
        raise UsageError(f"timm:{architecture.name} names other weights than {tag}", "Name the tag once")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if name in timm.list_pretrained():  # weights without a tag
        tags.append("")
    tag = tag or own_tag
    if not tags or (tag and tag not in tags):
        raise _unknown_tag(tag or PRETRAINED, architecture, tags)
    config = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)

    def fetch() -> Path:
        if config.hf_hub_id:
            return from_hub(config.hf_hub_id, *filter(None, [config.hf_hub_filename]))
        return from_url(config.url)

    full = f"{name}.{tag or config.tag}".rstrip(".")
    return _timm(f"timm {full}", full, config, architecture, fetch)


def _timm(
    source: str, name: str, config: Any, architecture: Architecture, fetch: Callable[[], Path], **options: Any
) -> Published:
    def read(path: Path, image_size: ImageSize, settings: NetworkSettings) -> Mapping[str, Tensor]:
        import timm

        own = {**dict(settings), "num_classes": config.num_classes}
        if fixed_size(architecture):
            own["img_size"] = shape_of(image_size)[1:]
        try:
            # timm converts old names, label offsets and position embeddings.
            network = timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay={"file": str(path), "source": "", "custom_load": False},
                **options,
                **own,
            )
        except Exception as error:  # a broken file provokes zip, pickle and runtime errors
            raise ImfDeployError(
                f"{path} does not hold the weights of {source} ({shorten(first_line(error))})",
                "Delete the file, so that it is downloaded again",
            ) from error
        return network.state_dict()  # type: ignore[no-any-return]

    size = config.input_size[-1]
    filtered: Interpolation = "bilinear" if config.interpolation == "bilinear" else "bicubic"
    preparation = Preparation(
        size, min(config.crop_pct, 1.0), tuple(config.mean), tuple(config.std), filtered
    )
    return Published(source, config.license, preparation, fetch, read)


_Three = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
_Word = Annotated[str, Field(max_length=LONGEST)]


@dataclass(frozen=True)
class _Described:
    """What is used of the ``config.json`` of weights on a hub."""

    architecture: _Word
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    mean: _Three
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=3, max_length=3)]
    crop_pct: Annotated[float, Field(gt=0, le=2)]
    interpolation: _Word
    input_size: Annotated[
        tuple[Annotated[int, Field(ge=1, le=LARGEST_SIDE)], ...], Field(min_length=3, max_length=3)
    ]
    license: _Word | None


def _of_hub(name: str, architecture: Architecture) -> Published:
    if architecture.library != "timm":
        raise UsageError(
            f"{HUB}{shorten(name, 80)} holds weights of timm, but {architecture.name} is torchvision's",
            "Name the network as timm:NAME",
        )
    from timm.models import PretrainedCfg, load_model_config_from_hf

    described = from_hub(name, "config.json")
    try:
        content, made_for, arguments = load_model_config_from_hf(name)
        known = {key: value for key, value in content.items() if key in PretrainedCfg.__dataclass_fields__}
        config = PretrainedCfg(**known)
        used = {key: getattr(config, key) for key in _Described.__dataclass_fields__}
        read_typed(_Described, used | {"architecture": made_for})
    except Exception as error:  # timm reads any content without checks
        raise ImfDeployError(
            f"{described} is not a description of timm's ({shorten(first_line(error))})",
            "Use weights that timm's push_to_hf_hub has written",
        ) from error
    own = architecture.name.partition(".")[0]
    theirs = made_for.partition(".")[0]
    if theirs != own:
        raise UsageError(
            f"{HUB}{name} holds weights of timm:{shorten(theirs, 80)}, not of timm:{own}",
            f"Name the network as timm:{shorten(theirs, 80)}",
        )
    if other := set(arguments) - _SHAPE:
        raise UsageError(
            f"{HUB}{name} was trained with other settings of the network ({', '.join(sorted(other)[:3])})",
            "Build it in a package.module:factory",
        )
    return _timm(
        f"{HUB}{name}",
        own,
        config,
        architecture,
        lambda: from_hub(name, *filter(None, [config.hf_hub_filename])),
        pretrained_cfg=known,
    )


def _unknown_tag(tag: str, architecture: Architecture, tags: list[str]) -> UsageError:
    if not tags:
        return UsageError(
            f"{architecture.library} publishes no weights for {architecture.name}",
            "Use a file, or another network",
        )
    listed = ", ".join(f"{PRETRAINED}:{known}" for known in tags[:6] if known)
    return UsageError(f"{architecture.name} has no published weights '{shorten(tag, 60)}'", f"Use {listed}")
