"""The specification of a model, and building a model from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.forms import read_typed
from imf_deploy.image_size import ImageSize, Shape, shape_of, short
from imf_deploy.limits import LONGEST, MOST_CLASSES
from imf_deploy.models.behaviour import check_behaviour
from imf_deploy.models.blocks import find_blocks, only_logits, probe
from imf_deploy.models.huggingface import config_hash
from imf_deploy.models.names import file_stem, resolve
from imf_deploy.models.settings import check_settings, choices
from imf_deploy.models.sources import build, fixed_size
from imf_deploy.models.strides import set_stem_strides
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.making import Block
from imf_deploy.settings.network import NetworkSettings, read_settings
from imf_deploy.tasks.classification import CLASSIFICATION

# Below this shorter side, ImageNet's strides leave too small a map.
SMALL_IMAGE = 64
# RepDistiller's MobileNetV2 on CIFAR-100 uses these, and they keep a CPU fast.
SMALL_STRIDES = (2, 1)

# Strides that other tools train small images with: the library's own, and none or one of them reduced.
OTHER_STRIDES: tuple[tuple[int, ...], ...] = ((), (1, 1), (1, 2))


_Text = Annotated[str, Field(max_length=LONGEST)]


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to rebuild an architecture.

    Attributes:
        name: Name; see :func:`imf_deploy.models.names.resolve`.
        num_classes: Number of logits.
        image_size: Size of the input: the side of a square in pixels, height and width, or channels, height
            and width if there is one channel; decides ``stem_strides`` when the spec is made.
        stem_strides: Strides at the first resolutions that the network reduces; if empty, the library's own.
            Parameters keep their names and shapes for any strides.
        taps: Modules that end a block, named by hand; if empty, they are found.
        settings: Other arguments of the architecture; see :mod:`imf_deploy.models.settings`.
    """

    name: _Text
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    image_size: ImageSize
    stem_strides: Annotated[tuple[Annotated[int, Field(ge=1, le=2)], ...], Field(max_length=8)] = ()
    taps: Annotated[tuple[_Text, ...], Field(max_length=LONGEST)] = ()
    settings: NetworkSettings = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", short(self.shape))

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the input."""
        return shape_of(self.image_size)

    @classmethod
    def for_images(
        cls,
        name: str,
        num_classes: int,
        image_size: ImageSize,
        stem_strides: tuple[int, ...] | None = None,
        taps: tuple[str, ...] = (),
    ) -> ModelSpec:
        """Choose the stem strides: as given, or by the shorter side of the images.

        Only networks of the libraries that are made for ImageNet get other strides: not the CIFAR networks,
        vision transformers, or networks that a function of the user's builds.

        Raises:
            UsageError: there is no such model.
        """
        architecture = resolve(name)
        if stem_strides is None:
            library = architecture.library in ("torchvision", "timm")
            small = min(shape_of(image_size)[1:]) < SMALL_IMAGE and library and not fixed_size(architecture)
            stem_strides = SMALL_STRIDES if small else ()
        return cls(name, num_classes, image_size, stem_strides, taps)

    def variants(self, settings: bool, strides: bool) -> list[ModelSpec]:
        """Return the other ways in which weights of this architecture may have been trained.

        Args:
            settings: Whether to vary :attr:`settings`.
            strides: Whether to vary :attr:`stem_strides`, if small images have changed them.
        """
        own = [self.settings, *(choices(resolve(self.name)) if settings else [])]
        stems = [self.stem_strides, *(OTHER_STRIDES if strides and self.stem_strides else [])]
        made = [replace(self, settings=each, stem_strides=stem) for stem in stems for each in own]
        return [spec for spec in made if spec != self]

    @property
    def stem(self) -> str:
        """The stem of the names of this model's files."""
        return file_stem(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        content = asdict(self) | {"stem_strides": list(self.stem_strides), "taps": list(self.taps)}
        if isinstance(self.image_size, tuple):
            content["image_size"] = list(self.image_size)
        del content["settings"]
        return content | ({"settings": dict(self.settings)} if self.settings else {})

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], trusted: Collection[str] = (), option: str = "`trust_model`"
    ) -> ModelSpec:
        """Read the form of :meth:`to_dict`, as a file's record stores it.

        Args:
            content: The record, which may be untrusted.
            trusted: Names ``package.module:factory`` whose code the user allows to run.
            option: The option by which the user allows it.

        Raises:
            UsageError: the record names a function that the user has not allowed.
            ImfDeployError: a field is missing or has the wrong form.
        """
        known = {"name", "num_classes", "image_size", "stem_strides", "taps"}
        try:
            spec = read_typed(cls, {name: value for name, value in content.items() if name in known})
            spec = replace(spec, settings=read_settings(content.get("settings", {})))
        except (AttributeError, ValueError) as error:
            raise ImfDeployError(f"the record of the model is damaged ({error})") from error
        if resolve(spec.name).library == "factory" and spec.name not in trusted:
            raise UsageError(
                f"the record names '{spec.name}' as the model's code, which was not run",
                f"If you trust that code, add {option} {spec.name}",
            )
        return spec

    def check_preprocess(self, preprocess: Preprocess, source: str) -> None:
        """Refuse a record whose network and preprocessing disagree about the input or the classes.

        Args:
            preprocess: Preprocessing of the same record.
            source: The file, for the message.

        Raises:
            ImfDeployError: they differ.
        """
        if (self.num_classes, self.shape) != (preprocess.num_classes, preprocess.shape):
            raise ImfDeployError(
                f"the record of {source} is damaged (its network and its preprocessing disagree)",
                "Create the file again",
            )


def recipe_of(spec: ModelSpec) -> dict[str, Any]:
    """Return everything that identifies a fresh network, for the recipe of a file.

    The name of a user's function does not identify what it returns. The recipe therefore holds a hash of the
    names and shapes of its tensors, and of the values that do not depend on the seed, such as loaded weights.
    For a network of transformers it holds a hash of the configuration, which the user may edit.

    Raises:
        UsageError: as :func:`build_model`.
        ImfDeployError: as :func:`build_model`.
    """
    content, architecture = spec.to_dict(), resolve(spec.name)
    if architecture.library == "hf":
        return content | {"configuration": config_hash(architecture.name)}
    if architecture.library != "factory":
        return content
    with torch.random.fork_rng(devices=[]):
        made = []
        for seed in (0, 1):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
            network = build_model(spec)
            made.append([*network.named_parameters(), *network.named_buffers()])
    digest = hashlib.sha256()
    for (name, tensor), (_, other) in zip(*made, strict=True):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        values, others = (t.detach().cpu().contiguous().flatten().view(torch.uint8) for t in (tensor, other))
        if torch.equal(values, others):
            digest.update(values.numpy().tobytes())
    return content | {"tensors": digest.hexdigest()}


def build_model(spec: ModelSpec) -> nn.Module:
    """Build the architecture with fresh weights: ``[N, C, H, W]`` -> logits ``[N, classes]``.

    Raises:
        UsageError: there is no such model or setting, or it cannot be built for images of this size.
        ImfDeployError: the model cannot run on them, or outputs another number of logits.
    """
    architecture = resolve(spec.name)
    check_settings(architecture, spec.settings)
    model = build(architecture, spec.num_classes, spec.image_size, spec.settings)
    if spec.stem_strides:
        set_stem_strides(model, spec.stem_strides, spec.image_size)
    model.eval()
    logits = only_logits(model, probe(model, spec.image_size))
    model.train()
    if not CLASSIFICATION.fits(tuple(logits.shape), spec.num_classes):
        raise ImfDeployError(
            f"{spec.name} outputs {logits.shape[1]} logits, but there are {spec.num_classes} classes",
            "A factory must build for num_classes",
        )
    return model.to(memory_format=torch.channels_last)


def build_deployable(spec: ModelSpec) -> nn.Module:
    """Build the architecture as :func:`build_model` does, and refuse it if it could not be deployed.

    Raises:
        UsageError: as there, or no file could reproduce its answers; see
            :func:`imf_deploy.models.check_behaviour`.
        ImfDeployError: as there.
    """
    network = build_model(spec)
    check_behaviour(network, spec.image_size, spec.name)
    return network


def check_student(
    spec: ModelSpec, start: Callable[[nn.Module], None] | None = None
) -> tuple[nn.Module, list[Block]]:
    """Build a student once before the long training, and refuse one that could not be distilled or deployed.

    Args:
        spec: The student's architecture.
        start: Loads the weights that it starts from; by default it starts fresh.

    Returns:
        The student with the weights that it starts from, and its blocks.

    Raises:
        UsageError: there is no such student, or no file could reproduce its answers.
        ImfDeployError: the student does not run on images of this size, or has no blocks.
    """
    if resolve(spec.name).library == "hf":
        raise UsageError(
            f"'{spec.name}' cannot be a student: networks of transformers are teachers",
            "Choose a student of torchvision or timm",
        )
    student = build_model(spec)
    if start:
        start(student)
    check_behaviour(student, spec.image_size, spec.name)
    return student, student_blocks(student, spec)


def student_blocks(model: nn.Module, spec: ModelSpec) -> list[Block]:
    """Return the blocks of a student: those that its spec names, or those that are found."""
    return find_blocks(model, spec.image_size, spec.taps)
