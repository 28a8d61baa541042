"""Records in memory for networks given as objects, as the stages need them."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imf_deploy.distillation.distill import Distilled
from imf_deploy.distillation.distiller import ImfDistiller
from imf_deploy.errors import DivergedError, UsageError
from imf_deploy.image_size import ImageSize, shape_of, short
from imf_deploy.method.branches import TrainingGraph
from imf_deploy.method.products import MODULE, Product, load_product
from imf_deploy.models import ModelSpec, check_behaviour, not_finite, only_logits, tensor_hashes
from imf_deploy.models.blocks import probe
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import DistilledFile, ProductFile
from imf_deploy.settings import BranchSettings
from imf_deploy.verification.proof import count_macs, count_parameters

Network = nn.Module | Product | str | Path
"""A network: a module, a product of :func:`imf_deploy.strip`, or the file of one."""


def as_product(
    network: Network,
    image_size: ImageSize | None = None,
    preprocess: Preprocess | None = None,
    name: str = "",
) -> Product:
    """Return a network as a product, on the CPU and in evaluation mode.

    Args:
        network: Network. A module is copied, so that later changes have no effect; a product is returned
            unchanged.
        image_size: Size of a module's input; not needed if ``preprocess`` has it.
        preprocess: How images are prepared as a module's input, and the names of its classes.
        name: Name of a module in files and reports; if empty, the name of its class.

    Raises:
        UsageError: the size is missing or contradicts ``preprocess``, or no file could reproduce its answers.
        ImfDeployError: the module does not run, or the file is not a product.
    """
    if isinstance(network, Product):
        return network
    if not isinstance(network, nn.Module):
        return load_product(Path(network))
    if isinstance(network, ImfDistiller):
        raise UsageError("an ImfDistiller is for training", "Use one of the products of imf_deploy.strip")
    module = copy.deepcopy(network).cpu().eval()
    name = name or type(module).__name__
    preprocess = fitting_preprocess(module, image_size, preprocess)
    shape = preprocess.shape
    check_behaviour(module, shape, name)
    record = ProductFile(
        **in_memory(module, ModelSpec(name, preprocess.num_classes, shape), preprocess),
        parent="",
        product=MODULE,
        parameters=count_parameters(module),
        macs=count_macs(module, shape),
        data="",
        data_config={},
    )
    return Product(record, module)


def fitting_preprocess(
    module: nn.Module, image_size: ImageSize | None, preprocess: Preprocess | None
) -> Preprocess:
    """Return the preprocessing of a module: the given one, or one that has only its size and classes.

    Raises:
        UsageError: the size is missing, or the arguments contradict each other or the module.
        ImfDeployError: the module does not run.
    """
    given = shape_of(image_size) if image_size else None
    shape = preprocess.shape if preprocess else given
    if not shape or given not in (None, shape):
        raise UsageError(
            f"image_size is {image_size}, but preprocess "
            + (f"has {short(shape)}" if shape and preprocess else "is not given"),
            "Use image_size=PIXELS, image_size=(HEIGHT, WIDTH), or (1, HEIGHT, WIDTH) for one channel",
        )
    if shape[0] not in (1, 3):
        raise UsageError(f"images have {shape[0]} channels", "Use a network for images of 1 or 3 channels")
    classes = only_logits(module, probe(module, shape)).shape[1]
    if preprocess and preprocess.num_classes != classes:
        raise UsageError(
            f"the network has {classes} classes, but preprocess names {preprocess.num_classes}",
            "Use the labels of its classes in the order of its logits",
        )
    return preprocess or Preprocess.of_tensors(shape, tuple(map(str, range(classes))))


def in_memory(module: nn.Module, spec: ModelSpec, preprocess: Preprocess) -> dict[str, Any]:
    """Return the common fields of the records of a network in memory; its hash is that of its tensors."""
    return {
        "path": Path(spec.stem),
        "format": MODULE,
        "sha256": hash_of(module, spec),
        "recipe": "",
        "model": spec.to_dict(),
        "preprocess": preprocess,
    }


def hash_of(module: nn.Module, spec: ModelSpec) -> str:
    """Return the SHA-256 of a network's tensors, with their names, and of its spec."""
    digest = hashlib.sha256(repr(spec).encode())
    for name, tensor in module.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def as_distilled(imf: ImfDistiller, preprocess: Preprocess | None = None) -> Distilled:
    """Return the trained networks of a distiller for the strip stage: a copy on the CPU.

    Args:
        imf: The distiller; it is not changed.
        preprocess: How images are prepared as the student's input, and the names of the classes.
    """
    preprocess = fitting_preprocess(imf.student, imf.spec.image_size, preprocess)
    fields = {
        "history": [],
        "blocks": imf.blocks,
        "teacher_features": imf.features,
        "ifds": imf.branches.shapes,
        "members": imf.branches.members,
        "teacher": {"name": type(imf.teacher).__name__},
        "teacher_accuracy": None,
        "teacher_tensors": tensor_hashes(imf.teacher.parameters()),
        "data": "",
        "data_config": {},
        "config": {},
    }
    return distilled_in_memory(imf.graph, imf.spec, preprocess, imf.settings, fields)


def distilled_in_memory(
    graph: TrainingGraph,
    spec: ModelSpec,
    preprocess: Preprocess,
    design: BranchSettings,
    fields: dict[str, Any],
) -> Distilled:
    """Return a copy of a training graph on the CPU with its record, for the strip stage.

    Args:
        graph: The graph.
        spec: The student's name, classes and size.
        preprocess: How images are prepared as the student's input.
        design: Design of the branches.
        fields: Further fields of the record.

    Raises:
        DivergedError: a weight or a statistic is not finite.
    """
    if spoilt := not_finite(graph.state_dict()):
        raise DivergedError(
            f"{len(spoilt)} weights and statistics are not finite, such as {spoilt[0]}",
            "Train with a lower learning rate, or clip the gradient",
        )
    graph = copy.deepcopy(graph).cpu().to(memory_format=torch.channels_last).eval()
    record = DistilledFile(**in_memory(graph, spec, preprocess), parent="", **fields)
    return Distilled(record, spec, graph, record.blocks, record.teacher_features, design)
