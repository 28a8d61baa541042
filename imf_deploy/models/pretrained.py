"""Weights that a network starts from: a file or published ones, loaded whole or with a new classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file, sha256_file
from imf_deploy.image_size import short
from imf_deploy.models.caches import hash_note
from imf_deploy.models.channels import sum_channels
from imf_deploy.models.checkpoints import Sets, choose, inner_key, read_sets
from imf_deploy.models.fitting import fit_names
from imf_deploy.models.huggingface_weights import find_huggingface
from imf_deploy.models.names import resolve
from imf_deploy.models.published import Published, find_published, is_published
from imf_deploy.models.registry import ModelSpec, build_model
from imf_deploy.models.weights import load_weights
from imf_deploy.preparation import Preparation
from imf_deploy.records.files import sidecar_path
from imf_deploy.records.making import StartingWeights
from imf_deploy.settings import DataSettings

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pretrained:
    """Weights that fit a network, except perhaps its classifier.

    Attributes:
        tensors: The network's ``state_dict``, without ``new``.
        new: Names of the tensors that stay fresh: the classifier's, if it was trained for other classes.
        origin: What they are, for records.
        preparation: How they expect images to be prepared; ``None`` if unknown.
        labels: Classes that they were trained for, in the order of the logits; empty if unknown.
        notes: Decisions made for the user, as sentences without a full stop.
    """

    tensors: State
    new: frozenset[str]
    origin: StartingWeights
    preparation: Preparation | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> list[Any]:
        """What decides the weights that a network starts from, for recipes."""
        return [self.origin.sha256, sorted(self.new)]

    def load(self, model: nn.Module) -> None:
        """Load the weights into a network of the same spec, whose tensors :attr:`new` stay as they are.

        Raises:
            ImfDeployError: a number is not finite or has another type, or the network is another one.
        """
        own = model.state_dict()
        fresh = {name: tensor for name, tensor in own.items() if name in self.new}
        load_weights(model, {**fresh, **self.tensors}, self.origin.source)


def preparation_of(text: str, name: str) -> Preparation | None:
    """Return how weights expect images to be prepared; ``None`` if that is not known.

    Nothing is downloaded, except the description of ``hf-hub:`` weights.

    Args:
        text: A file, ``pretrained``, ``pretrained:TAG``, or ``hf-hub:OWNER/NAME``.
        name: Name of the network that starts from them.

    Raises:
        UsageError: there is no such file, or no such published weights for this network.
        ImfDeployError: the record of a file is damaged.
    """
    if is_published(text):
        return _find(text, name).preparation
    path = existing_file(Path(text), "weights")
    return load_artifact(path).preprocess.preparation if sidecar_path(path).is_file() else None


def prepared_for(data: DataSettings, text: str, name: str) -> DataSettings:
    """Return settings of data whose images are prepared as weights expect, unless the settings say otherwise.

    Published weights are downloaded if they are not in a cache, so that this fails before images are read.

    Args:
        data: The settings.
        text: See :func:`preparation_of`; if empty, the settings are returned unchanged.
        name: Name of the network that starts from the weights.

    Raises:
        UsageError: as :func:`preparation_of`.
        ImfDeployError: as :func:`preparation_of`.
    """
    if not text:
        return data
    if is_published(text):
        _find(text, name).fetch()
    return replace(data, starting=preparation_of(text, name))


def read_pretrained(text: str, spec: ModelSpec, labels: Sequence[str] = (), key: str = "") -> Pretrained:
    """Read weights that a network starts from; published ones are downloaded if they are not in a cache.

    All tensors but those of the classifier must fit the network. The classifier is used as well, unless it
    was trained for another number of classes or, according to its record, for other classes.

    Args:
        text: See :func:`preparation_of`.
        spec: The network.
        labels: Classes of the network, in the order of its logits, to be compared with a file's record.
        key: Which weights of a file to use; see :func:`imf_deploy.models.load_checkpoint`.

    Raises:
        UsageError: there is no such file, no such published weights, or no such key.
        ImfDeployError: the weights cannot be downloaded, are damaged, or belong to another network.
    """
    known: tuple[str, ...] = ()
    notes: list[str] = []
    if is_published(text):
        published = _find(text, spec.name)
        path, source, license_tag = published.fetch(), published.source, published.license
        preparation, notes, known = published.preparation, [hash_note(path)], published.labels
        state = published.read(path, spec.image_size, spec.settings) if published.read else None
        sets = read_sets(path) if state is None else {"": dict(state)}
    else:
        path, source, license_tag = existing_file(Path(text), "weights"), text, None
        preparation, sets = None, read_sets(path)
        if sidecar_path(path).is_file():
            record = load_artifact(path)
            _check_name(record.model, spec, path)
            preparation, known = record.preprocess.preparation, record.preprocess.labels
    network = _Network(spec)
    found = _fitted_to_channels(sets, network, path, source, key)
    if found.classes == spec.num_classes and known and labels and known != tuple(labels):
        found = replace(found, new=frozenset(network.classifier))
        notes.append(
            f"{source} was trained for other classes: its classifier is left out, and a new one starts"
        )
    elif found.new:
        theirs = "has no classifier" if found.classes is None else f"was trained for {found.classes} classes"
        notes.append(f"{source} {theirs}: a new classifier of {spec.num_classes} classes starts")
    body = {name: tensor for name, tensor in found.tensors.items() if name not in found.new}
    origin = StartingWeights(source, sha256_file(path), license_tag, found.classes, bool(found.new))
    return Pretrained(
        body, found.new, origin, preparation, known, tuple(note for note in [*notes, *found.notes] if note)
    )


def _find(text: str, name: str) -> Published:
    architecture = resolve(name)
    if architecture.library == "hf":
        return find_huggingface(text, architecture.name)
    return find_published(text, architecture)


def _check_name(model: Mapping[str, Any], spec: ModelSpec, path: Path) -> None:
    name = str(model.get("name"))
    if resolve(_untagged(name)) != resolve(_untagged(spec.name)):
        raise ImfDeployError(
            f"{path} holds the weights of {name}, not of {spec.name}", "Use that network, or other weights"
        )


def _untagged(name: str) -> str:
    """Return a name without timm's tag, which names weights of one network."""
    return name.partition(".")[0] if name.startswith("timm:") else name


@dataclass(frozen=True)
class _Found:
    """The tensors of a file under a network's names.

    Attributes:
        tensors: Tensors by name.
        classes: Number of classes of the file; ``None`` if it has no classifier.
        new: Names of the classifier's tensors if it cannot be used.
        notes: Decisions made for the user.
    """

    tensors: State
    classes: int | None
    new: frozenset[str]
    notes: list[str]


@dataclass(frozen=True)
class _Network:
    """A fresh network, which is built when it is first needed."""

    spec: ModelSpec

    @cached_property
    def tensors(self) -> State:
        """Its ``state_dict``."""
        with torch.random.fork_rng(devices=[]):
            return build_model(self.spec).state_dict()

    @cached_property
    def classifier(self) -> Mapping[str, list[int]]:
        """The tensors whose shape depends on the number of classes, with the dimensions that do."""
        other = _Network(replace(self.spec, num_classes=self.spec.num_classes + 1)).tensors
        return {
            name: [i for i, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if a != b]
            for name, tensor in self.tensors.items()
            if tensor.shape != other[name].shape
        }


def _fitted_to_channels(sets: Sets, network: _Network, path: Path, source: str, key: str) -> _Found:
    """Find the weights of a network, also in a file of the same network for three channels."""
    channels, height, width = network.spec.shape
    try:
        return _fitted(sets, network, path, source, key)
    except UsageError:
        raise
    except ImfDeployError:
        if channels == 3:
            raise
        three = _Network(replace(network.spec, image_size=short((3, height, width))))
        with contextlib.suppress(ImfDeployError):
            found = _fitted(sets, three, path, source, key)
            note = f"{source} is for images of three channels: the first convolution's are added up"
            summed = sum_channels(found.tensors, network.tensors)
            return replace(found, tensors=summed, notes=[*found.notes, note])
        raise


def _fitted(sets: Sets, network: _Network, path: Path, source: str, key: str) -> _Found:
    """Find the weights of a network in a file.

    Raises:
        UsageError: there are no weights under the key.
        ImfDeployError: more than the classifier differs.
    """
    own = network.tensors
    forms: list[tuple[int | None, frozenset[str], State]] = [(network.spec.num_classes, frozenset(), own)]
    if choose(sets, own, path, key)[1].mismatches:
        head = network.classifier
        forms += [
            (classes, frozenset(head), _with_classes(own, head, classes))
            for classes in _class_counts(sets, own, head)
        ]
        forms.append((None, frozenset(head), {n: t for n, t in own.items() if n not in head}))
    for classes, new, expected in forms:
        _, fitted, notes = choose(sets, expected, path, key)
        if not fitted.mismatches:
            return _Found(fitted.tensors, classes, new, notes + [f"{path}: {each}" for each in fitted.notes])
        if not key and (inner := inner_key(sets, expected)):
            _, fitted, _ = choose(sets, expected, path, inner)
            return _Found(fitted.tensors, classes, new, [f"{path}: the weights under '{inner}' are used"])
    # With the file's own number of classes, the message names what really differs.
    _, fitted, _ = choose(sets, forms[min(1, len(forms) - 2)][2], path, key)
    raise ImfDeployError(
        f"{source} does not belong to {network.spec.name} ({'; '.join(fitted.mismatches)})",
        "Name the network that the weights were trained with",
    )


def _class_counts(sets: Sets, own: State, head: Mapping[str, list[int]]) -> list[int]:
    """Return the numbers of classes of the classifiers in a file."""
    counts: set[int] = set()
    for tensors in sets.values():
        named = fit_names(tensors, own).tensors
        for name, dimensions in head.items():
            if name in named and named[name].dim() == own[name].dim():
                counts |= {named[name].shape[dimension] for dimension in dimensions}
    return sorted(counts)


def _with_classes(own: State, head: Mapping[str, list[int]], classes: int) -> State:
    """Return the tensors that the network would have for another number of classes."""
    changed: dict[str, Tensor] = {}
    for name, tensor in own.items():
        shape = [classes if i in head.get(name, ()) else size for i, size in enumerate(tensor.shape)]
        changed[name] = torch.empty(shape, dtype=tensor.dtype, device="meta") if name in head else tensor
    return changed
