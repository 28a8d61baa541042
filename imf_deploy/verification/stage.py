"""Stage: run deployable files on a split and compare them with their PyTorch model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from imf_deploy.data import DataSet
from imf_deploy.data.batches import EVALUATION_BATCH
from imf_deploy.data.evaluate import accuracy_of, logits_of
from imf_deploy.errors import ImfDeployError
from imf_deploy.method.products import MODULE, Product
from imf_deploy.records.checks import Rung, Status, Verification, first_broken
from imf_deploy.records.files import DeployableFile, OnnxFile, ProductFile
from imf_deploy.runners.base import Batch
from imf_deploy.runners.opening import open_file
from imf_deploy.settings import Gate
from imf_deploy.settings.gate import GivenGate
from imf_deploy.verification.doubt import doubt
from imf_deploy.verification.interface import interface_rung
from imf_deploy.verification.ladder import (
    GIVEN,
    NOT_STRIPPED,
    STRIPPED,
    Array,
    file_tolerance,
    rung_name,
    step,
)
from imf_deploy.verification.metrics import Metrics, check_gate
from imf_deploy.verification.origin import check_record, made_from
from imf_deploy.verification.parity import class_changes, compare, worst_inputs
from imf_deploy.verification.processors import judge, judge_half, logits_output, runs_in_integers_on_cpus
from imf_deploy.verification.run import (
    check_batches,
    check_sizes,
    largest_batch,
    not_run,
    runner_logits,
    with_batches,
)


def evaluate_product(product: Product, data: DataSet) -> Product:
    """Measure a product's accuracy as :func:`measure_accuracy` does, and store it in its sidecar."""
    measured = measure_accuracy(product, data)
    return product if measured is product else replace(measured, artifact=measured.artifact.save())


def measure_accuracy(product: Product, data: DataSet) -> Product:
    """Return a product with its accuracy in PyTorch.

    Its record then has ``accuracy`` (test split, to report) and ``validation_accuracy`` (for choices; null
    if there is no validation split), from 0 to 1.
    """
    if product.artifact.evaluated_on == data.fingerprint:
        return product
    cpu = torch.device("cpu")
    accuracy, validation = (
        accuracy_of(product.module, split, data.preprocess, cpu) if len(split) else None
        for split in (data.test, data.validation)
    )
    evaluated = product.artifact.revised(
        evaluated_on=data.fingerprint,
        accuracy=accuracy,
        validation_accuracy=validation,
        images=len(data.test),
    )
    return replace(product, artifact=evaluated)


def verify(
    product: Product,
    files: Sequence[DeployableFile],
    data: DataSet,
    gate: Gate | None = None,
    *,
    search: bool = False,
) -> list[DeployableFile]:
    """Compare files with the product that they were made from, on the whole test split.

    Each file is also compared with the file that it was made from, if that one precedes it in ``files``: a
    step of the parity ladder.

    Args:
        product: The PyTorch model.
        files: ONNX files and engines; each must name the product's hash as its parent or source.
        data: Data with the product's own preprocessing.
        gate: Gate that each file must pass; ``None`` uses the gate that the file was made for, or otherwise
            the default.
        search: Whether to try other orders of the classes and other preprocessing, in search of one that is
            clearly better for the product.

    Returns:
        The files' records, not saved, with the measurements in ``verify``. A file fails if a rung of its
        ladder breaks, if its answers or those of the product depend on the batch, or if its gate is missed;
        the reason names the first of these. Without a suitable device a file is not run; an engine that does
        not load or run on its device has failed.

    Raises:
        UsageError: a metric of the gate is not defined on the test split, or a record alone names code.
        ImfDeployError: a file belongs to another product, does not match its record, or cannot be run by ONNX
            Runtime; or the data has other preprocessing.
    """
    if data.preprocess != product.artifact.preprocess:
        raise ImfDeployError(
            f"{data.name} has other preprocessing than {product.artifact.path} was trained with",
            "Use the data and the options that it was distilled with",
        )
    check_files(product, files)
    gates = [gate or GivenGate().over(file.gate or Gate(), str(file.path)) for file in files]
    for each in set(gates):
        check_gate(each, data, ["test"])
    measures = cache(lambda gate: Metrics.of(gate, data.preprocess))
    reference = logits_of(product.module, data.test, data.preprocess, torch.device("cpu")).numpy()
    labels, confidence = data.test.labels.numpy(), product.artifact.confidence
    classes = data.preprocess.num_classes
    start = _product_ladder(product, reference, data)
    done: dict[str, _Verified] = {}
    reason_to_doubt = doubt(reference, data.test, data.preprocess, product.module if search else None)
    verified: list[DeployableFile] = []
    for artifact, own_gate in zip(files, gates, strict=True):
        origin = made_from(artifact, files)
        before = done.get(origin.sha256, start) if origin else start
        if isinstance(artifact, OnnxFile) and artifact.interface.suffix:
            verified.append(verify_interface(artifact, made_from(artifact, verified), data))
            continue
        target = (
            artifact.calibration.target if isinstance(artifact, OnnxFile) and artifact.calibration else ""
        )
        name, against = rung_name(artifact.format, artifact.precision, target), before.ladder[-1].name
        tolerance = file_tolerance(artifact.format, artifact.precision)
        try:
            # The measurement must not depend on this machine's processor; the others are emulated below.
            output = logits_output(artifact)
            with open_file(
                artifact.path, artifact.format, classes=classes, exact_sums=True, logits=output
            ) as runner:
                largest = largest_batch(artifact)
                logits = runner_logits(runner, data.test, data.preprocess, largest)
                check = check_sizes(runner, artifact, logits, data, largest)
        except (ImfDeployError, RuntimeError) as error:  # CUDA raises the latter
            if artifact.format == "onnx":
                raise
            # One engine that this GPU refuses must not prevent the report on all other files.
            status, reason = not_run(artifact.path, error)
            ladder = [*before.ladder, Rung(name, against, status, reason)]
            verification = Verification(status=status, reason=reason, gate=own_gate, ladder=ladder)
        else:
            own = step(name, against, logits, before.logits, tolerance, data.preprocess.task)
            ladder = [*before.ladder, with_batches(own, check)]
            done[artifact.sha256] = _Verified(ladder, logits)
            metrics = measures(own_gate)
            parity = compare(logits, reference, labels, own_gate, data.preprocess.task, metrics)
            portability, elsewhere = None, ""
            if runs_in_integers_on_cpus(artifact):
                portability, elsewhere = judge(
                    artifact, data.test, data.preprocess, reference, own_gate, metrics
                )
            elif (artifact.format, artifact.precision) == ("onnx", "fp16"):
                elsewhere = judge_half(artifact, data.test, data.preprocess, reference, own_gate, metrics)
            reason = failure(ladder, parity.reason or elsewhere)
            answers = (logits, reference, labels, data.preprocess.labels)
            verification = replace(
                parity,
                status="fail" if reason else "pass",
                reason=reason or None,
                ladder=ladder,
                uncalibrated=metrics.of_network(reference * confidence.temperature, labels)
                if confidence
                else {},
                classes=class_changes(*answers),
                worst=worst_inputs(*answers),
                batches=check,
                portability=portability,
            )
        verified.append(artifact.revised(verify=replace(verification, doubt=reason_to_doubt)))
    return verified


def verify_interface(artifact: OnnxFile, origin: DeployableFile | None, data: DataSet) -> OnnxFile:
    """Return a file with another input or output, with the measurements of its origin and a rung of its own.

    Args:
        artifact: The file.
        origin: The verified file that it was made from; ``None`` if it was not found.
        data: The images of both.

    Raises:
        ImfDeployError: the origin was not found, or not verified.
    """
    if not isinstance(origin, OnnxFile) or origin.verify is None:
        raise ImfDeployError(
            f"{artifact.path} was made from another ONNX file, which is not beside it", "Keep them together"
        )
    before = origin.verify
    ladder = [*before.ladder, interface_rung(artifact, origin, data.test, before.ladder[-1].name)]
    reason = failure(ladder, before.reason or "")
    status: Status = "fail" if reason else "pass"
    return artifact.revised(verify=replace(before, status=status, reason=reason or None, ladder=ladder))


def check_files(product: Product, files: Sequence[DeployableFile]) -> None:
    """Check that files were made from a product and match their records; none is run.

    Raises:
        ImfDeployError: one of them does not.
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


def check_parent(product: ProductFile, artifact: DeployableFile) -> None:
    """Refuse a file that was not made from a product; hashes are compared, and nothing is run.

    Raises:
        ImfDeployError: naming both files.
    """
    if product.sha256 not in (artifact.parent, artifact.source):
        raise ImfDeployError(
            f"{artifact.path} was not made from {product.path}", "Use the weights that it was exported from"
        )


@dataclass(frozen=True)
class _Verified:
    """The ladder down to one form of the network, and the answers of that form."""

    ladder: list[Rung]
    logits: Array


def failure(ladder: list[Rung], missed: str) -> str:
    """Return why a file fails, with the rung; empty if its ladder holds and its gate is passed.

    Args:
        ladder: Ladder down to the file.
        missed: Why it misses its gate; empty if it does not.
    """
    own, first = ladder[-1], first_broken(ladder)
    if first and first is not own:
        return f"the ladder breaks at {first.name} ({first.reason}), on which {own.name} depends"
    reason = own.reason or missed
    return f"at {own.name}, {reason}" if reason else ""


def _strip_ladder(product: ProductFile) -> list[Rung]:
    if product.format == MODULE and product.strip is None:
        return [Rung(GIVEN, STRIPPED, "not-run", NOT_STRIPPED)]
    if not (product.strip and product.strip.ladder):
        raise ImfDeployError(f"the record of {product.path} has no proof of stripping", "Strip again")
    return product.strip.ladder
