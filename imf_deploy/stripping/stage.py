"""Stage: strip a distilled student into its products, and prove each one."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.artifact import claim
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import GateError
from imf_deploy.files import fingerprint, sha256_file
from imf_deploy.method.fold import FoldedImf, fold
from imf_deploy.method.names import PLAIN, blocks_kept
from imf_deploy.method.products import MODULE, Product, build_product
from imf_deploy.models import build_model, load_weights, read_weights, save_weights, tensor_hashes
from imf_deploy.progress import track
from imf_deploy.records.checks import StripProof
from imf_deploy.records.files import ProductFile
from imf_deploy.records.making import Confidence
from imf_deploy.stripping.confidence import calibrate_confidence, run_with
from imf_deploy.verification.ladder import CALIBRATED, FOLD, FOLDED, SAME, STRIPPED, TRAINING_GRAPH, step
from imf_deploy.verification.proof import count_macs, count_parameters, removed_modules

PROOF_IMAGES = 256


def strip(
    distilled: Distilled,
    products: Sequence[str],
    folder: Path,
    images: Tensor | None = None,
    overwrite: bool = False,
    calibration: DataSet | None = None,
) -> list[ProductFile]:
    """Write each product as ``FOLDER/STUDENT-PRODUCT.safetensors``, read it back, and prove it.

    Args:
        distilled: Result of :func:`imf_deploy.distillation.distill.load_distilled`; not changed.
        products: Result of :func:`imf_deploy.method.products.choose_products`.
        folder: Output folder.
        images: ``float32 [N, C, H, W]`` to compare logits on; seeded noise if there are none.
        overwrite: Whether files made with other settings may be replaced.
        calibration: Data on whose validation split confidences are calibrated; ``None`` leaves them.

    Returns:
        The record of each product, with its proof.

    Raises:
        UsageError: a path belongs to another file, or confidences cannot be calibrated.
        GateError: a proof does not hold; the file is removed.
    """
    images = _noise(distilled) if images is None else images
    made = []
    with track("Stripping", len(products)) as advance:
        for product in products:
            made.append(_strip_one(distilled, product, folder, images, overwrite, calibration))
            advance(1)
    return made


def strip_in_memory(
    distilled: Distilled,
    products: Sequence[str],
    images: Tensor | None = None,
    calibration: DataSet | None = None,
) -> list[Product]:
    """Make and prove products like :func:`strip`, without files.

    Raises:
        UsageError: confidences cannot be calibrated.
        GateError: a proof does not hold.
    """
    images = _noise(distilled) if images is None else images
    made = []
    with track("Stripping", len(products)) as advance:
        for product in products:
            module, confidence = _made(distilled, product, calibration)
            own = [f"temperature {confidence.temperature}"] if confidence else []
            sha256 = fingerprint([product, distilled.artifact.sha256, *own])
            path = Path(f"{distilled.spec.stem}-{product}")
            fields = _proved(distilled, product, module, images, confidence)
            made.append(
                Product(ProductFile(path=path, format=MODULE, sha256=sha256, recipe="", **fields), module)
            )
            advance(1)
    return made


def _noise(distilled: Distilled) -> Tensor:
    return torch.randn(64, *distilled.spec.shape, generator=torch.Generator().manual_seed(0))


def _strip_one(
    distilled: Distilled,
    product: str,
    folder: Path,
    images: Tensor,
    overwrite: bool,
    calibration: DataSet | None,
) -> ProductFile:
    path = folder / f"{distilled.spec.stem}-{product}.safetensors"
    calibrated = ["confidence", calibration.fingerprint] if calibration else []
    recipe = fingerprint(["product", product, distilled.artifact.sha256, *calibrated])
    if made := claim(ProductFile, path, recipe, overwrite):
        return made
    module, confidence = _made(distilled, product, calibration)
    save_weights(path, module.state_dict())
    # The file that was read back is proved, before its sidecar is written.
    stripped = build_product(_model(distilled, product), product, trusted=(distilled.spec.name,))
    load_weights(stripped, read_weights(path), str(path))
    try:
        fields = _proved(distilled, product, stripped, images, confidence)
    except GateError:
        path.unlink()
        raise
    return ProductFile(path=path, sha256=sha256_file(path), recipe=recipe, **fields).save()


def _made(
    distilled: Distilled, product: str, calibration: DataSet | None
) -> tuple[nn.Module, Confidence | None]:
    """Return a product that shares nothing with the training graph, and how it was calibrated."""
    module = copy.deepcopy(make_product(distilled, product))
    name = f"{distilled.spec.name} ({product})"
    return module, calibrate_confidence(module, calibration, name) if calibration else None


def _model(distilled: Distilled, product: str) -> dict[str, Any]:
    """Return the architecture of a product for its record."""
    model = distilled.spec.to_dict()
    if product != PLAIN:
        k = blocks_kept(product)
        model["taps"] = [block.name for block in distilled.blocks[:k]]
        model["ifds"] = [asdict(shape) for shape in distilled.graph.imf.shapes[:k]]
    return model


def _proved(
    distilled: Distilled,
    product: str,
    stripped: nn.Module,
    images: Tensor,
    confidence: Confidence | None,
) -> dict[str, Any]:
    """Prove a product, and return the fields of its record.

    Raises:
        GateError: the proof does not hold.
    """
    proof = prove(distilled, product, stripped, images, confidence)
    if not proof.passed:
        raise GateError(f"the strip proof of {product} failed: {proof.broken}", "Please report this")
    return {
        "parent": distilled.artifact.sha256,
        "model": _model(distilled, product),
        "preprocess": distilled.artifact.preprocess,
        "product": product,
        "strip": proof,
        "confidence": confidence,
        "parameters": proof.parameters_after,
        "macs": proof.macs_after,
        "data": distilled.artifact.data,
        "data_config": distilled.artifact.data_config,
        "starting_weights": distilled.artifact.starting_weights,
    }


def make_product(distilled: Distilled, product: str) -> nn.Module:
    """Return a product's module: the student itself, or the folded first k blocks."""
    if product == PLAIN:
        return distilled.graph.student.eval()
    graph = distilled.graph
    return fold(graph.student, graph.imf, distilled.blocks, blocks_kept(product))


def prove(
    distilled: Distilled,
    product: str,
    stripped: nn.Module,
    images: Tensor,
    confidence: Confidence | None = None,
) -> StripProof:
    """Compare the training graph with a product.

    A product with calibrated confidences is compared twice: with the last layer that the training graph has,
    and, with its own, against those logits divided by its temperature.

    Args:
        distilled: The training graph.
        product: ``plain`` or ``imf@k``.
        stripped: The product, as read back from its file.
        images: ``float32 [N, C, H, W]``.
        confidence: How its confidences were calibrated.
    """
    with torch.inference_mode():
        own, branches = distilled.graph.eval()(images)
        before = own if product == PLAIN else branches.attentive[blocks_kept(product) - 1]
        after = stripped(images)
        uncalibrated = (
            _uncalibrated(distilled, product, stripped, images, confidence) if confidence else after
        )
        graph, last = before.numpy(), uncalibrated.numpy()
        if isinstance(stripped, FoldedImf):
            # The first k blocks and IFDs are the product's own; heads, attention and re-fitted layers are the
            # training graph's.
            cut = distilled.graph.imf.deployed(stripped.pooled(images)).numpy()
            ladder = [
                step(STRIPPED, TRAINING_GRAPH, cut, graph, FOLD),
                step(FOLDED, STRIPPED, last, cut, FOLD),
            ]
        else:
            ladder = [step(STRIPPED, TRAINING_GRAPH, last, graph, SAME)]
        if confidence:
            before = before / confidence.temperature
            scaled = (uncalibrated / confidence.temperature).numpy()
            ladder.append(step(CALIBRATED, ladder[-1].name, after.numpy(), scaled, FOLD))
    tensors = stripped.state_dict()
    kept = {_source(distilled, product, name) for name in tensors}
    # The fold adds one layer.
    trained = {*distilled.graph.state_dict(), "imf.classifier.weight", "imf.classifier.bias"}
    attention = distilled.graph.imf.attention
    attentive = set(
        tensor_hashes([attention, *(attention[:k].softmax(0) for k in range(1, len(attention) + 1))])
    )
    teacher = set(distilled.artifact.teacher_tensors)
    hashes = tensor_hashes(stripped.parameters())
    # A student given as an object cannot be rebuilt by name: its tensors are those of its architecture.
    given = distilled.artifact.format == MODULE
    library = (distilled.graph.student if given else build_model(distilled.spec)).state_dict()
    size = distilled.spec.shape
    return StripProof(
        product=product,
        ladder=ladder,
        logits_identical=torch.equal(before, after),
        max_abs_diff=float((before - after).abs().max()),
        images=len(images),
        parameters_before=count_parameters(distilled.graph),
        parameters_after=count_parameters(stripped),
        macs_before=count_macs(distilled.graph, size),
        macs_after=count_macs(stripped, size),
        removed=removed_modules(distilled.graph.state_dict(), kept),
        keys_match=library.keys() == tensors.keys() if product == PLAIN else kept <= trained,
        teacher_tensors_found=sum(h in teacher for h in hashes),
        attentive_tensors_found=sum(h in attentive for h in hashes),
    )


def _uncalibrated(
    distilled: Distilled, product: str, stripped: nn.Module, images: Tensor, confidence: Confidence
) -> Tensor:
    """Return the logits of a product with the last layer that it has without calibrated confidences."""
    own = make_product(distilled, product).get_submodule(confidence.layer).state_dict()
    return run_with(stripped, {f"{confidence.layer}.{key}": value for key, value in own.items()}, images)


def _source(distilled: Distilled, product: str, name: str) -> str:
    """Return the tensor of the training graph that became the tensor ``name`` of a product."""
    if product == PLAIN:
        return f"student.{name}"
    if name.startswith("trunk."):
        return f"student.{name.removeprefix('trunk.')}"
    k = blocks_kept(product)
    if name.startswith("classifier.") and distilled.graph.imf.prefix_head(k):
        return f"imf.prefix_heads.{k - 1}.{name.removeprefix('classifier.')}"
    return f"imf.{name}"
