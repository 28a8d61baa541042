"""Stage: run deployable files on a split and compare them with their PyTorch model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imf_deploy.artifact import Artifact
from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.data.batches import EVALUATION_BATCH
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.targets import BatchRange, choose_profile, parse_profiles
from imf_deploy.forms import read_typed
from imf_deploy.preprocess import Preprocess
from imf_deploy.runners.base import Batch, Runner
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.stripping.products import MODULE, Product
from imf_deploy.verification.batches import BatchCheck, check_batches, with_batches
from imf_deploy.verification.changes import changes
from imf_deploy.verification.doubt import doubt
from imf_deploy.verification.evaluate import logits_of, top1
from imf_deploy.verification.gate import Gate
from imf_deploy.verification.ladder import (
    GIVEN,
    NOT_STRIPPED,
    STRIPPED,
    Array,
    Rung,
    Status,
    file_tolerance,
    first_broken,
    rung_name,
    step,
)
from imf_deploy.verification.origin import made_from
from imf_deploy.verification.parity import compare
from imf_deploy.verification.processors import judge, logits_output, runs_in_integers_on_cpus
from imf_deploy.verification.record import check_record

BATCH = 100


def evaluate_product(product: Product, data: DataSet) -> Product:
    """Measure a product's accuracy as :func:`measure_accuracy` does, and keep it in its sidecar."""
    measured = measure_accuracy(product, data)
    return product if measured is product else replace(measured, artifact=measured.artifact.save())


def measure_accuracy(product: Product, data: DataSet) -> Product:
    """Return a product with its accuracy in PyTorch.

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
    return replace(product, artifact=product.artifact.with_evidence(**evidence))


def open_runner(
    path: Path,
    file_format: str,
    threads: int | None = None,
    classes: int | None = None,
    exact_sums: bool = False,
    logits: str = "",
) -> Runner:
    """Return the runner for a file whose time is not measured; it loads when entered.

    Args:
        path: The file.
        file_format: ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        threads: Threads of a CPU runner.
        classes: Number of classes, which an output of an ONNX file has to fit.
        logits: Output of an ONNX file that holds the logits; empty takes the one that fits.
        exact_sums: Whether this machine computes INT8 in ONNX Runtime as processors with VNNI do.
    """
    if file_format == "onnx":
        from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner(
            path, threads, exact_sums=exact_sums, classes=classes, logits=logits, spin=False
        )
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
    product: Product, files: list[Artifact], data: DataSet, gate: Gate | None = None, *, search: bool = False
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
        search: Whether other orders of the classes and other preprocessing are tried, in search of one
            that the product is clearly better with.

    Returns:
        The files' artifacts, not saved; the evidence of each holds ``verify``: the fields of
        :class:`~imf_deploy.verification.parity.Parity`, the ``gate``, the ``doubt`` about the product's
        accuracy (empty where there is none), the ``ladder`` down to the file
        (see :class:`~imf_deploy.verification.ladder.Rung`), and ``status`` (``pass``, ``fail``, or
        ``not-run``) with a ``reason``, ``classes`` and ``worst`` (see
        :mod:`imf_deploy.verification.changes`), and ``batches`` (see
        :class:`~imf_deploy.verification.batches.BatchCheck`; null for a file that takes one
        size of batch). A file fails when a rung of its ladder breaks, when its answers or those of the
        product depend on the batch, or when its gate is missed; the reason names the first that broke.
        Without a device for it a file was not run; an engine that does not load or run on its device
        has failed.

    Raises:
        ImfDeployError: a file belongs to another product, is not what its record says, or cannot be
            run by ONNX Runtime; or the data belongs to other preprocessing.
    """
    if data.preprocess != product.artifact.preprocess:
        raise ImfDeployError(
            f"{data.name} is preprocessed otherwise than {product.artifact.path} was trained with",
            "Give the data and the options that it was distilled with",
        )
    check_files(product, files)
    reference = logits_of(product.module, data.test, data.preprocess, torch.device("cpu")).numpy()
    labels = data.test.labels.numpy()
    classes = data.preprocess.num_classes
    start = _product_ladder(product, reference, data)
    done: dict[str, _Verified] = {}
    reason_to_doubt = doubt(reference, data.test, data.preprocess, product.module if search else None)
    verified = []
    for artifact in files:
        origin = made_from(artifact, files)
        before = done.get(origin.sha256, start) if origin else start
        name, against = (
            rung_name(artifact.format, artifact.precision, _target(artifact)),
            before.ladder[-1].name,
        )
        tolerance = file_tolerance(artifact.format, artifact.precision)
        own_gate = gate or recorded_gate(artifact)
        result: dict[str, Any] = {"gate": own_gate.to_dict(), "doubt": reason_to_doubt}
        try:
            # What is measured must not depend on the processor at hand; the others are emulated below.
            output = logits_output(artifact)
            with open_runner(
                artifact.path, artifact.format, classes=classes, exact_sums=True, logits=output
            ) as runner:
                largest = _largest_batch(artifact)
                logits = runner_logits(runner, data.test, data.preprocess, largest)
                check = _check_batches(runner, artifact, logits, data, largest)
        except (ImfDeployError, RuntimeError) as error:  # CUDA raises the latter
            if artifact.format == "onnx":
                raise
            # One engine that this GPU refuses must not cost the report on everything else.
            status, reason = _not_run(artifact.path, error)
            ladder = [*before.ladder, Rung(name, against, status, reason)]
            result |= {"status": status, "reason": reason}
        else:
            own = step(name, against, logits, before.logits, tolerance)
            ladder = [*before.ladder, with_batches(own, check)]
            done[artifact.sha256] = _Verified(ladder, logits)
            parity = compare(logits, reference, labels)
            missed = parity.missed(own_gate)
            if runs_in_integers_on_cpus(artifact):
                result["portability"], elsewhere = judge(
                    artifact, data.test, data.preprocess, reference, own_gate
                )
                missed = missed or elsewhere
            reason = failure(ladder, missed)
            result |= {"status": "fail" if reason else "pass", "reason": reason or None, **parity.to_dict()}
            result |= changes(logits, reference, labels, data.preprocess.labels)
            result["batches"] = check.to_dict() if check else None
        result["ladder"] = [rung.to_dict() for rung in ladder]
        verified.append(artifact.with_evidence(verify=result))
    return verified


def check_files(product: Product, files: Sequence[Artifact]) -> None:
    """Check that files were made from a product and are what their records say; none is run.

    Raises:
        ImfDeployError: one of them is not.
    """
    for artifact in files:
        check_parent(product.artifact, artifact)
        check_record(artifact)


def _product_ladder(product: Product, reference: Array, data: DataSet) -> _Verified:
    """Return the ladder down to the product in PyTorch, whose last rung fails if it depends on the batch."""

    def infer(images: Batch) -> Array:
        with torch.inference_mode():
            logits: Array = product.module(torch.from_numpy(images)).float().numpy()
        return logits

    *ladder, last = _strip_ladder(product.artifact)
    check = check_batches(infer, reference, data.test, data.preprocess, EVALUATION_BATCH, "fp32")
    return _Verified([*ladder, with_batches(last, check)], reference)


def _check_batches(
    runner: Runner, artifact: Artifact, logits: Array, data: DataSet, largest: int
) -> BatchCheck | None:
    """Run a few images one at a time where the file takes that, and not only that.

    An engine with several optimisation profiles is run in each, and the first that differs is returned.
    """
    if "batch" not in artifact.evidence:
        sizes = [1]
    else:
        profiles = _profiles(artifact)
        main = choose_profile(profiles, largest)
        sizes = [1] if min(profile.min for profile in profiles) == 1 and largest > 1 else []
        sizes += [profile.opt for index, profile in enumerate(profiles) if index != main and profile.opt > 1]
    checks = [
        check_batches(runner.infer, logits, data.test, data.preprocess, largest, artifact.precision, size)
        for size in sizes
    ]
    return next((check for check in checks if check.reason), checks[0] if checks else None)


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
    if product.format == MODULE and "strip" not in product.evidence:
        return [Rung(GIVEN, STRIPPED, "not-run", NOT_STRIPPED)]
    try:
        ladder = [read_typed(Rung, rung) for rung in product.known("strip", dict)["ladder"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ImfDeployError(f"the record of {product.path} is damaged ({error})", "Strip again") from error
    if not ladder:
        raise ImfDeployError(f"the record of {product.path} has no proof of stripping", "Strip again")
    return ladder


def recorded_gate(artifact: Artifact) -> Gate:
    """Return the gate that a file was made for, or the default one.

    Raises:
        ImfDeployError: its record holds something else.
    """
    return Gate.from_dict(artifact.evidence["gate"]) if "gate" in artifact.evidence else Gate()


def _target(artifact: Artifact) -> str:
    """Return whom an INT8 file was written for; empty for other files."""
    if "calibration" not in artifact.evidence:
        return ""
    target = artifact.known("calibration", dict).get("target")
    if target not in ("onnxruntime-cpu", "tensorrt"):
        raise ImfDeployError(f"the record of {artifact.path} is damaged ('target')", "Make the file again")
    return str(target)


def _not_run(engine: Path, error: Exception) -> tuple[Status, str]:
    """Return whether an engine failed or had no device, and why."""
    told = error.what if isinstance(error, ImfDeployError) else str(error).partition("\n")[0]
    reason = told.replace(str(engine), "it")  # engines of which the same is true are told of together
    return ("not-run", why_not_here(engine) or reason) if isinstance(error, DeviceError) else ("fail", reason)


def _largest_batch(artifact: Artifact) -> int:
    """Return the batch to verify with: what an engine accepts at most, or :data:`BATCH`."""
    if "batch" not in artifact.evidence:
        return BATCH
    sizes = [max(min(profile.max, BATCH), profile.min) for profile in _profiles(artifact)]
    return max((size for size in sizes if size <= BATCH), default=min(sizes))


def _profiles(artifact: Artifact) -> tuple[BatchRange, ...]:
    """Return the batches that an engine was built for."""
    return parse_profiles(artifact.known("batch", str))
