"""Stage: run deployable files on a split and compare them with their PyTorch model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from imf_deploy.artifact import Artifact
from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.errors import ImfDeployError
from imf_deploy.evaluate import logits_of, top1
from imf_deploy.export.targets import BatchRange
from imf_deploy.preprocess import Preprocess
from imf_deploy.runners.base import Runner
from imf_deploy.strip.products import Product
from imf_deploy.verify.parity import Array, compare

BATCH = 100


def evaluate_product(product: Product, data: DataSet) -> Product:
    """Measure a product's accuracy in PyTorch and keep it in its sidecar.

    Its evidence then holds ``accuracy`` (test split, to report) and ``validation_accuracy`` (to
    choose by; missing where there is no validation split), from 0 to 1.
    """
    known = product.artifact.evidence
    if known.get("evaluated_on") == data.fingerprint:
        return product
    cpu = torch.device("cpu")
    evidence = {
        "evaluated_on": data.fingerprint,
        "accuracy": top1(product.module, data.test, data.preprocess, cpu),
        "images": len(data.test),
    }
    if len(data.validation):
        evidence["validation_accuracy"] = top1(product.module, data.validation, data.preprocess, cpu)
    return Product(product.artifact.with_evidence(**evidence).save(), product.module)


def open_runner(path: Path, file_format: str, threads: int | None = None) -> Runner:
    """Return the runner for a file; it loads when entered."""
    if file_format == "onnx":
        from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner(path, threads)
    from imf_deploy.runners.tensorrt import TensorRTRunner

    return TensorRTRunner(path)


def runner_logits(runner: Runner, split: Split, preprocess: Preprocess, size: int = BATCH) -> Array:
    """Return the logits of an entered runner on a split, ``float32 [N, classes]``, in order.

    Args:
        runner: Any runner.
        split: What to run it on.
        preprocess: The file's own.
        size: Images in every batch; the last one is filled up, since an engine may have a least batch.
    """
    outputs = []
    for images, _ in eval_batches(split, preprocess, size):
        full = np.resize(images.numpy(), (size, *images.shape[1:])) if len(images) < size else images.numpy()
        outputs.append(runner.infer(np.ascontiguousarray(full))[: len(images)])
    return np.concatenate(outputs)


def verify(product: Product, files: list[Artifact], data: DataSet) -> list[Artifact]:
    """Compare files with the product that they were made from, on the whole test split.

    Args:
        product: The PyTorch model.
        files: ONNX files and engines; each has to name the product's hash as its parent.
        data: Data with the product's own preprocessing.

    Returns:
        The files' artifacts, saved; the evidence of each holds ``verify``: the fields of
        :class:`~imf_deploy.verify.parity.Parity`, and ``status`` (``pass``, ``fail``, or
        ``not-run``) with a ``reason``.

    Raises:
        ImfDeployError: a file belongs to another product, or the data to other preprocessing.
    """
    if data.preprocess != product.artifact.preprocess:
        raise ImfDeployError(
            f"{data.name} is preprocessed otherwise than {product.artifact.path} was trained with",
            "Give the data and the options that it was distilled with",
        )
    reference = logits_of(product.module, data.test, data.preprocess, torch.device("cpu")).numpy()
    labels = data.test.labels.numpy()
    verified = []
    for artifact in files:
        if product.artifact.sha256 not in (artifact.parent, artifact.evidence.get("source")):
            raise ImfDeployError(
                f"{artifact.path} was not made from {product.artifact.path}",
                "Give the weights that it was exported from",
            )
        try:
            with open_runner(artifact.path, artifact.format) as runner:
                logits = runner_logits(runner, data.test, data.preprocess, _largest_batch(artifact))
            gate = artifact.evidence.get("gate")
            parity = compare(logits, reference, labels, artifact.precision, gate)
            result = parity.to_dict() | {
                "status": "fail" if parity.reason else "pass",
                "reason": parity.reason or None,
            }
        except ImfDeployError as error:
            if artifact.format == "onnx":
                raise
            # One engine that this GPU refuses must not cost the report on everything else.
            reason = error.what if torch.cuda.is_available() else "no CUDA device"
            result = {"status": "not-run", "reason": reason}
        verified.append(artifact.with_evidence(verify=result).save())
    return verified


def _largest_batch(artifact: Artifact) -> int:
    """Return the batch to verify with: what an engine's profile allows at most, or :data:`BATCH`."""
    if "batch" not in artifact.evidence:
        return BATCH
    profile = BatchRange.parse(artifact.evidence["batch"])
    return max(min(profile.max, BATCH), profile.min)
