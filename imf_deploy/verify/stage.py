"""Stage: run deployable files on a split and compare them with their PyTorch model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imf_deploy.artifact import Artifact
from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.evaluate import logits_of, top1
from imf_deploy.export.targets import BatchRange
from imf_deploy.gate import Gate
from imf_deploy.ladder import Array, Rung, Status, file_tolerance, first_broken, rung_name, step
from imf_deploy.preprocess import Preprocess
from imf_deploy.runners.base import Runner
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.strip.products import Product
from imf_deploy.typed import read_typed
from imf_deploy.verify.changes import changes
from imf_deploy.verify.origin import made_from
from imf_deploy.verify.parity import compare
from imf_deploy.verify.record import check_record

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


def verify(
    product: Product, files: list[Artifact], data: DataSet, gate: Gate | None = None
) -> list[Artifact]:
    """Compare files with the product that they were made from, on the whole test split.

    Each file is also compared with the file that it was made from, where that one is among
    ``files`` and comes first: a step of the parity ladder.

    Args:
        product: The PyTorch model.
        files: ONNX files and engines; each has to name the product's hash as its parent or source.
        data: Data with the product's own preprocessing.
        gate: What each file has to pass; nothing takes the gate that the file was made for, else
            the default one.

    Returns:
        The files' artifacts, not saved; the evidence of each holds ``verify``: the fields of
        :class:`~imf_deploy.verify.parity.Parity`, the ``gate``, the ``ladder`` down to the file
        (see :class:`~imf_deploy.ladder.Rung`), and ``status`` (``pass``, ``fail``, or ``not-run``)
        with a ``reason``, ``classes`` and ``worst`` (see :mod:`imf_deploy.verify.changes`). A file
        fails when a rung of its ladder breaks or its gate is missed; the reason names the first that
        broke. Without a device for it a file was not run; an engine that does not load or run on its
        device has failed.

    Raises:
        ImfDeployError: a file belongs to another product, is not what its record says, or cannot be
            run by ONNX Runtime; or the data belongs to other preprocessing.
    """
    if data.preprocess != product.artifact.preprocess:
        raise ImfDeployError(
            f"{data.name} is preprocessed otherwise than {product.artifact.path} was trained with",
            "Give the data and the options that it was distilled with",
        )
    for artifact in files:
        check_parent(product.artifact, artifact)
        check_record(artifact)
    reference = logits_of(product.module, data.test, data.preprocess, torch.device("cpu")).numpy()
    labels = data.test.labels.numpy()
    start = _Verified(_strip_ladder(product.artifact), reference)
    done: dict[str, _Verified] = {}
    verified = []
    for artifact in files:
        origin = made_from(artifact, files)
        before = done.get(origin.sha256, start) if origin else start
        target = _calibration(artifact).get("target", "")
        name, against = rung_name(artifact.format, artifact.precision, target), before.ladder[-1].name
        tolerance = file_tolerance(artifact.format, artifact.precision)
        own_gate = gate or Gate.from_dict(artifact.evidence.get("gate", Gate().to_dict()))
        result: dict[str, Any] = {"gate": own_gate.to_dict()}
        try:
            with open_runner(artifact.path, artifact.format) as runner:
                logits = runner_logits(runner, data.test, data.preprocess, _largest_batch(artifact))
        except (ImfDeployError, RuntimeError) as error:  # CUDA raises the latter
            if artifact.format == "onnx":
                raise
            # One engine that this GPU refuses must not cost the report on everything else.
            status, reason = _not_run(artifact.path, error)
            ladder = [*before.ladder, Rung(name, against, status, reason)]
            result |= {"status": status, "reason": reason}
        else:
            ladder = [*before.ladder, step(name, against, logits, before.logits, tolerance)]
            done[artifact.sha256] = _Verified(ladder, logits)
            parity = compare(logits, reference, labels)
            reason = failure(ladder, parity.missed(own_gate))
            result |= {"status": "fail" if reason else "pass", "reason": reason or None, **parity.to_dict()}
            result |= changes(logits, reference, labels, data.preprocess.labels)
        result["ladder"] = [rung.to_dict() for rung in ladder]
        verified.append(artifact.with_evidence(verify=result))
    return verified


def check_parent(product: Artifact, artifact: Artifact) -> None:
    """Refuse a file that was not made from a product; hashes are compared, and nothing is run.

    Raises:
        ImfDeployError: naming both files.
    """
    if product.sha256 not in (artifact.parent, artifact.evidence.get("source")):
        raise ImfDeployError(
            f"{artifact.path} was not made from {product.path}", "Give the weights that it was exported from"
        )


@dataclass(frozen=True)
class _Verified:
    """The ladder down to one form of the network, and what that form answers."""

    ladder: list[Rung]
    logits: Array


def failure(ladder: list[Rung], missed: str) -> str:
    """Return why a file fails, with the rung; empty where its ladder holds and its gate is passed.

    Args:
        ladder: Down to the file.
        missed: Why it misses its gate; empty where it does not.
    """
    own, first = ladder[-1], first_broken(ladder)
    if first and first is not own:
        return f"the ladder breaks at {first.name} ({first.reason}), which {own.name} stands on"
    reason = own.reason or missed
    return f"at {own.name}, {reason}" if reason else ""


def _strip_ladder(product: Artifact) -> list[Rung]:
    try:
        ladder = [read_typed(Rung, rung) for rung in product.known("strip", dict)["ladder"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ImfDeployError(f"the record of {product.path} is damaged ({error})", "Strip again") from error
    if not ladder:
        raise ImfDeployError(f"the record of {product.path} has no proof of stripping", "Strip again")
    return ladder


def _calibration(artifact: Artifact) -> dict[str, Any]:
    return artifact.known("calibration", dict) if "calibration" in artifact.evidence else {}


def _not_run(engine: Path, error: Exception) -> tuple[Status, str]:
    """Return whether an engine failed or had no device, and why."""
    told = error.what if isinstance(error, ImfDeployError) else str(error).partition("\n")[0]
    reason = told.replace(str(engine), "it")  # engines of which the same is true are told of together
    return ("not-run", why_not_here(engine) or reason) if isinstance(error, DeviceError) else ("fail", reason)


def _largest_batch(artifact: Artifact) -> int:
    """Return the batch to verify with: what an engine's profile allows at most, or :data:`BATCH`."""
    if "batch" not in artifact.evidence:
        return BATCH
    profile = BatchRange.parse(artifact.known("batch", str))
    return max(min(profile.max, BATCH), profile.min)
