"""Stage: write a product as ONNX files and TensorRT engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imf_deploy.artifact import Artifact, claim, describe
from imf_deploy.compat import versions
from imf_deploy.errors import UsageError
from imf_deploy.export.build_options import BuildOptions
from imf_deploy.export.choice import DEPLOY, PRECISIONS, FileChoice
from imf_deploy.export.device import this_gpu
from imf_deploy.export.flavour import LIBRARIES, FlavourOption, choose_flavour, gpu_here
from imf_deploy.export.onnx_file import Precision
from imf_deploy.export.onnx_writer import OnnxPrecision, save_onnx, trace_onnx
from imf_deploy.export.refit import stripped_path
from imf_deploy.export.targets import (
    PORTABLE_CAPABILITIES,
    TURING,
    BatchRange,
    Flavour,
    parse_capability,
    parse_profiles,
    profiles_of,
    profiles_text,
    rtx_runs_on,
)
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.export.timing_cache import check_cache
from imf_deploy.files import fingerprint
from imf_deploy.models.names import file_stem
from imf_deploy.runners.base import INPUT, OUTPUT
from imf_deploy.stages import stage

if TYPE_CHECKING:
    from onnx import ModelProto

    from imf_deploy.stripping.products import Product


@dataclass(frozen=True)
class EngineConfig:
    """How engines are built.

    Attributes:
        flavour: ``rtx`` or ``tensorrt``.
        batch: Sizes of the batch: one range, or one for each optimisation profile.
        capabilities: Compute capabilities such as ``86``; none builds for RTX GPUs, Ampere and newer.
        options: Of the build.
        timing_cache: File that keeps timings; nothing keeps them beside the engines. It decides nothing
            about an engine but how soon it is built.
        precisions: Which ONNX files an engine is built from.
    """

    flavour: Flavour
    batch: BatchRange | tuple[BatchRange, ...]
    capabilities: tuple[str, ...] = ()
    options: BuildOptions = field(default_factory=BuildOptions)
    timing_cache: Path | None = None
    precisions: tuple[Precision, ...] = PRECISIONS

    def recipe(self) -> dict[str, Any]:
        """Return what decides the content of an engine."""
        return {
            "flavour": self.flavour,
            "batch": profiles_text(profiles_of(self.batch)),
            "capabilities": self.capabilities,
            "options": self.options.to_dict(),
        }


def choose_engines(
    option: FlavourOption,
    batch: str,
    capabilities: Sequence[str],
    choice: FileChoice,
    options: BuildOptions | None = None,
    timing_cache: Path | None = None,
) -> tuple[EngineConfig | None, str]:
    """Read ``--trt``, ``--batch`` and ``--compute-capability``, which have to fit ``--precisions``.

    Args:
        option: ``--trt``.
        batch: ``--batch``.
        capabilities: Of ``--compute-capability``.
        precisions: Of ``--precisions``.
        options: Of the build; nothing takes TensorRT's own.
        timing_cache: ``--timing-cache``.

    Returns:
        How to build engines, or nothing; and what the user should know of it, empty where all is well.

    Raises:
        UsageError: a value that cannot be used, or a TensorRT that is not installed.
        DeviceError: the full TensorRT was asked for where there is no CUDA device.
    """
    profiles, targets = parse_profiles(batch), tuple(parse_capability(text) for text in capabilities)
    check_cache(timing_cache)
    library = choose_flavour(option)
    if library.flavour == "tensorrt" and targets:
        raise UsageError(
            "the full TensorRT builds for the GPU of this machine and no other",
            "Leave --compute-capability out, or give --trt rtx",
        )
    if TURING in targets and library.flavour and set(choice.engines) != {"fp16"}:
        raise UsageError(
            "compute capability 75 has no engines with a float32 matrix product, as fp32 and int8 files have",
            f"Give --precisions fp16 or {DEPLOY}, or leave 75 out",
        )
    if not library.flavour:
        return None, f"No TensorRT engines: {library.reason}"
    options = options or BuildOptions()
    options.check(library.flavour)
    # Who names targets may build for other machines.
    remark = "" if library.flavour == "tensorrt" or targets else _rtx_without_targets(gpu_here())
    return EngineConfig(library.flavour, profiles, targets, options, timing_cache, choice.engines), remark


def _rtx_without_targets(here: str) -> str:
    """Return what to do where the GPU here does not run RTX engines that are built for no target."""
    if not here or rtx_runs_on(here, PORTABLE_CAPABILITIES):
        return ""
    other = "--compute-capability 75 --precisions fp16" if here == TURING else LIBRARIES["tensorrt"].install
    return f"The GPU here (SM{here}) will not run these TensorRT-RTX engines; for others, type: {other}"


def export(
    product: Product,
    precisions: Sequence[Precision],
    engines: EngineConfig | None,
    folder: Path,
    overwrite: bool = False,
) -> list[Artifact]:
    """Write ``FOLDER/STUDENT-PRODUCT-PRECISION.onnx`` and an engine from each, with sidecars.

    What the same product and options already made is taken as it is. ``int8`` is left out: it needs
    images, and :func:`imf_deploy.calib.product.export_int8` makes it from the fp32 file.

    Args:
        product: As :func:`imf_deploy.stripping.products.load_product` gives it, best after
            :func:`imf_deploy.verification.stage.evaluate_product`, so that the file carries its accuracy.
        precisions: Of the ONNX files, as :meth:`FileChoice.written` gives them.
        engines: How to build engines, and of which precisions; nothing builds none.
        folder: Where to write.
        overwrite: Whether files that were made in another way may be replaced.

    Returns:
        The artifacts, each ONNX file before its engine.

    Raises:
        ImfDeployError: the network cannot be exported, or TensorRT refuses it.
    """
    made = []
    # Only when a file is missing, and once for all precisions: tracing takes seconds.
    trace = cache(lambda: trace_onnx(product.module, product.image_size))
    for precision in precisions:
        if precision == "int8":
            continue
        onnx_file = _write_onnx(product, trace, precision, folder, overwrite)
        made.append(onnx_file)
        if engines and precision in engines.precisions:
            made.append(write_engine(product, onnx_file, engines, folder, overwrite))
    return made


def _stem(product: Product, precision: str) -> str:
    record = product.artifact
    return f"{file_stem(record.model['name'])}-{record.product}-{precision}"


def _fields(product: Product, precision: str) -> dict[str, Any]:
    """Return what the records of all files made from a product share."""
    record, size = product.artifact, product.image_size
    return {
        "model": record.model,
        "preprocess": record.preprocess,
        "product": record.product,
        "precision": precision,
        "inputs": {INPUT: ["batch", 3, size, size]},
        "outputs": {OUTPUT: ["batch", record.preprocess.num_classes]},
    }


def _evidence(product: Product) -> dict[str, Any]:
    keys = ("parameters", "macs", "data", "data_config")
    known = product.artifact.evidence
    return {key: known[key] for key in keys if key in known} | {"source": product.artifact.sha256}


def _write_onnx(
    product: Product, trace: Callable[[], ModelProto], precision: OnnxPrecision, folder: Path, overwrite: bool
) -> Artifact:
    path = folder / f"{_stem(product, precision)}.onnx"
    record = product.artifact
    accuracy = {key: record.evidence.get(key) for key in ("accuracy", "validation_accuracy")}
    recipe = fingerprint(["onnx", record.sha256, precision, accuracy, versions()])
    if made := claim(path, recipe, overwrite):
        return made
    metadata = {
        **record.preprocess.metadata(),
        "model": json.dumps(record.model),
        "product": record.product,
        "precision": precision,
        "source_sha256": record.sha256,
        "tools": json.dumps(versions()),
        **{name: repr(value) for name, value in accuracy.items() if value is not None},
    }
    info = save_onnx(trace(), path, precision, metadata)
    return describe(
        path,
        kind="onnx",
        format="onnx",
        parent=record.sha256,
        recipe=recipe,
        evidence=_evidence(product) | {"operators": dict(info.operators), "opset": info.opset},
        **_fields(product, precision),
    ).save()


def _built_on(engines: EngineConfig) -> str:
    """Return the GPU that an engine of the full TensorRT is bound to; RTX engines are bound to none."""
    gpu = None if engines.flavour == "rtx" else this_gpu()
    return str(gpu) if gpu else ""


def write_engine(
    product: Product, onnx_file: Artifact, engines: EngineConfig, folder: Path, overwrite: bool = False
) -> Artifact:
    """Write ``FOLDER/STUDENT-PRODUCT-PRECISION.engine`` from an ONNX file, with its sidecar.

    With ``strip_weights`` a plan without weights is written beside it, ``…-stripped.engine``.

    Raises:
        ImfDeployError: TensorRT refuses the file.
    """
    target = "".join(f"-sm{capability}" for capability in engines.capabilities)
    path = folder / f"{_stem(product, onnx_file.precision)}{target}.engine"
    recipe = fingerprint(["engine", onnx_file.sha256, engines.recipe(), _built_on(engines), versions()])
    if made := claim(path, recipe, overwrite):
        return made
    with stage("engines"):
        info = build_engine(
            onnx_file.path,
            path,
            engines.flavour,
            engines.batch,
            engines.capabilities,
            engines.options,
            engines.timing_cache,
        )
    evidence = _evidence(product) | {
        "targets": list(info.header.targets),
        "batch": profiles_text(info.batch),
        "build": info.to_record(),
    }
    fields: dict[str, Any] = {
        "kind": "engine",
        "format": "tensorrt_rtx" if engines.flavour == "rtx" else "tensorrt",
        "parent": onnx_file.sha256,
        "recipe": recipe,
        **_fields(product, onnx_file.precision),
    }
    if engines.options.strip_weights:
        describe(stripped_path(path), evidence=evidence | {"stripped": True}, **fields).save()
    return describe(path, evidence=evidence, **fields).save()
