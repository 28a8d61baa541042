"""The products of one distillation: ``plain`` and ``imf@k``."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.forms import read_typed
from imf_deploy.image_size import Shape
from imf_deploy.method.budget import full_shapes
from imf_deploy.method.fold import FoldedImf
from imf_deploy.method.names import PLAIN, blocks_kept, imf
from imf_deploy.models import (
    ModelSpec,
    build_model,
    load_weights,
    read_weights,
    student_blocks,
)
from imf_deploy.records.files import ProductFile
from imf_deploy.records.making import Block, IfdShape
from imf_deploy.settings.distill import MOST_REFINING
from imf_deploy.settings.run import ALL, BEST

MODULE = "module"
"""The format of a network in memory, and the product of one that was not stripped."""


def choose_products(wanted: Sequence[str], blocks: int) -> list[str]:
    """Return the requested products, in the order of their size.

    Args:
        wanted: ``("all",)``, or names such as ``("plain", "imf@2")``.
        blocks: Number of blocks that an ``imf@k`` may keep.

    Raises:
        UsageError: this student has no product of a name, or the option is ``best``, which needs a distilled
            student and validation images.
    """
    known = [PLAIN, *(imf(k) for k in range(1, blocks + 1))]
    if tuple(wanted) == (BEST,):
        raise UsageError(
            "`products` best is chosen by distill-and-export, on validation images",
            f"Use all, or some of: {', '.join(known)}",
        )
    names = known if tuple(wanted) == (ALL,) else wanted
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            f"`products` has no product '{', '.join(unknown)}'", f"This student has: {', '.join(known)}"
        )
    return [name for name in known if name in names]


@dataclass(frozen=True)
class Product:
    """A deployable network: its record and its module, in evaluation mode."""

    artifact: ProductFile
    module: nn.Module

    @property
    def name(self) -> str:
        """``plain``, ``imf@k``, or ``module`` for a network that was not stripped."""
        return self.artifact.product

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the input."""
        return self.artifact.preprocess.shape


def build_product(model: dict[str, Any], product: str, trusted: Collection[str] = ()) -> nn.Module:
    """Build the architecture of a product with fresh weights, in evaluation mode.

    Args:
        model: The model in the product's sidecar: ``ModelSpec.to_dict``, and for ``imf@k`` how its ``ifds``
            are built. Files of release 0.2.0 and before have the shapes of the teacher's features, one for
            each branch, under ``teacher_features``, and the ``refining`` units of each IFD instead.
        product: ``plain`` or ``imf@k``.
        trusted: Factories whose code the user allows to run; see ``ModelSpec.from_dict``.

    Raises:
        UsageError: the record names a factory that is not trusted.
        ImfDeployError: the record is damaged.
    """
    spec = ModelSpec.from_dict(model, trusted)
    try:
        k = blocks_kept(product)
        shapes = read_typed(list[IfdShape], model["ifds"]) if k and "ifds" in model else None
        features = read_typed(list[Block], model["teacher_features"] if k and shapes is None else [])
        refining = read_typed(list[int], model["refining"] if k and shapes is None else [])
    except (KeyError, ValueError) as error:
        raise ImfDeployError(f"the record of the model is damaged ({error})", "Strip again") from error
    network = build_model(spec)
    if not k:
        return network.eval()
    try:
        blocks = student_blocks(network, spec)
    except UsageError as error:
        raise ImfDeployError(f"the record of the model is damaged ({error.what})", "Strip again") from error
    if not 1 <= k <= len(blocks):
        raise ImfDeployError(
            f"{spec.name} has {len(blocks)} blocks, so {product} does not exist", "Strip again"
        )
    if shapes is None:
        if not len(features) == len(refining) == k or not all(0 <= n <= MOST_REFINING for n in refining):
            raise ImfDeployError(f"the record names {len(features)} IFDs for {product}", "Strip again")
        shapes = full_shapes(blocks[:k], features, refining)
    if len(shapes) != k:
        raise ImfDeployError(f"the record names {len(shapes)} IFDs for {product}", "Strip again")
    folded = FoldedImf(network, blocks[:k], shapes, spec.num_classes).eval()
    return folded.to(memory_format=torch.channels_last)


def load_product(path: Path, trusted: Collection[str] = ()) -> Product:
    """Load a product's weights, strictly, into a freshly built module.

    Args:
        path: File that the strip stage wrote.
        trusted: Factories whose code the user allows to run; see ``ModelSpec.from_dict``.

    Raises:
        UsageError: the record names a factory that is not trusted.
        ImfDeployError: the file has another type, is damaged, or does not fit its record.
    """
    artifact = load_artifact(path, ProductFile)
    ModelSpec.from_dict(artifact.model, trusted).check_preprocess(artifact.preprocess, str(path))
    module = build_product(artifact.model, artifact.product, trusted)
    load_weights(module, read_weights(path), str(path))
    return Product(artifact, module)
