"""Stage: write a product as ONNX files and TensorRT engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, get_args

from onnx import ModelProto

from imf_deploy.artifact import claim
from imf_deploy.compat import versions
from imf_deploy.errors import UsageError
from imf_deploy.export.build_options import changed_options, check_options
from imf_deploy.export.choice import PORTABLE_CAPABILITIES, FileChoice, profiles_text, rtx_runs_on
from imf_deploy.export.flavour import LIBRARIES, choose_flavour, gpu_here, this_gpu
from imf_deploy.export.half_fit import find_kept
from imf_deploy.export.onnx_writer import FORM, OnnxPrecision, save_onnx, trace_onnx
from imf_deploy.export.refit import stripped_path
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.export.timing_cache import check_cache
from imf_deploy.files import fingerprint, sha256_file
from imf_deploy.method.products import Product
from imf_deploy.models.names import file_stem
from imf_deploy.records.files import DeployableFile, EngineFile, OnnxFile, ProductFile, carried
from imf_deploy.records.half import HalfFit
from imf_deploy.settings import EngineSettings, GraphSettings
from imf_deploy.settings.export import DEPLOY, EVERY_PRECISION, TURING, Flavour, Precision
from imf_deploy.stages import stage
from imf_deploy.tasks.names import INPUT, OUTPUT


@dataclass(frozen=True)
class EnginePlan:
    """The decision how engines are built.

    Attributes:
        flavour: ``rtx`` or ``tensorrt``.
        settings: Batches, targets and options of the build.
        precisions: Precisions of the ONNX files that an engine is built from.
    """

    flavour: Flavour
    settings: EngineSettings = EngineSettings()  # noqa: RUF009, frozen
    precisions: tuple[Precision, ...] = EVERY_PRECISION

    def recipe(self) -> dict[str, Any]:
        """Return the settings that determine the content of an engine."""
        return {
            "flavour": self.flavour,
            "batch": profiles_text(self.settings.batch),
            "capabilities": self.settings.compute_capability,
            "options": changed_options(self.settings),
        }


def choose_engines(settings: EngineSettings, choice: FileChoice) -> tuple[EnginePlan | None, str]:
    """Decide how engines are built on this machine, in accordance with the files that are written.

    Returns:
        How to build engines, or ``None``; and a note for the user, which may be empty.

    Raises:
        UsageError: values are incompatible, or a TensorRT is not installed.
        DeviceError: the full TensorRT is requested, but there is no CUDA device.
    """
    check_cache(settings.timing_cache)
    library, targets = choose_flavour(settings.trt), settings.compute_capability
    if not library.flavour:
        return None, f"No TensorRT engines: {library.reason}"
    check_options(settings, library.flavour, targets)
    if TURING in targets and set(choice.engines) != {"fp16"}:
        raise UsageError(
            "compute capability 75 has no engines with a float32 matrix product, as fp32 and int8 files have",
            f"Use `precisions` fp16 or {DEPLOY}, or leave 75 out",
        )
    # With explicit targets, the engines may be for other machines.
    remark = "" if library.flavour == "tensorrt" or targets else _rtx_without_targets(gpu_here())
    return EnginePlan(library.flavour, settings, choice.engines), remark


def _rtx_without_targets(here: str) -> str:
    """Return what to do if this GPU does not run RTX engines that are built without targets."""
    if not here or rtx_runs_on(here, PORTABLE_CAPABILITIES):
        return ""
    other = "`compute_capability` 75 `precisions` fp16" if here == TURING else LIBRARIES["tensorrt"].install
    return f"This GPU (SM{here}) cannot run these TensorRT-RTX engines; for others, use: {other}"


@dataclass(frozen=True)
class Fitted:
    """The nodes of an fp16 file that stay in fp32.

    Attributes:
        half: The part of the file's record.
        model: The fp32 model whose nodes it names; ``None`` for the traced product.
    """

    half: HalfFit
    model: ModelProto | None = None


class HalfFitter(Protocol):
    """What fits fp16 files to images; see :class:`imf_deploy.calib.half.HalfOnImages`."""

    @property
    def key(self) -> str:
        """Hash of everything that decides the fit besides the model."""

    def fit(self, product: Product, trace: Callable[[], ModelProto]) -> Fitted:
        """Return the fit of a product.

        Raises:
            GateError: fp16 misses its gate.
        """


def export(
    product: Product,
    precisions: Sequence[OnnxPrecision],
    engines: EnginePlan | None,
    folder: Path,
    overwrite: bool = False,
    trace: Callable[[], ModelProto] | None = None,
    fitter: HalfFitter | None = None,
    graph: GraphSettings = GraphSettings(),  # noqa: B008, frozen
) -> list[DeployableFile]:
    """Write ``FOLDER/STUDENT-PRODUCT-PRECISION.onnx`` and an engine from each, with sidecars.

    Files that the same product and options already made are returned unchanged.

    Args:
        product: A product from :func:`imf_deploy.method.products.load_product`, preferably after
            :func:`imf_deploy.verification.stage.evaluate_product`, so that the file contains its accuracy.
        precisions: Precisions of the ONNX files: ``fp32`` and ``fp16``.
        engines: How to build engines, and in which precisions; ``None`` builds none.
        folder: Output folder.
        overwrite: Whether files made with other settings may be replaced.
        trace: Returns the traced product, if several calls share it.
        fitter: Fits fp16 to images; without it, only the weights are judged.
        graph: How ONNX files are written.

    Returns:
        The artifacts, each ONNX file before its engine.

    Raises:
        UsageError: no precision is given, or one that is not a float precision.
        GateError: fp16 misses its gate.
        ImfDeployError: the network cannot be exported, or TensorRT refuses it.
    """
    if not precisions or set(precisions) - set(get_args(OnnxPrecision)):
        raise UsageError(
            f"precisions {list(precisions)} cannot be exported from a PyTorch model",
            "Use fp32 or fp16; int8 is made from an fp32 file: imf-deploy calibrate",
        )
    made: list[DeployableFile] = []
    # Traced only if a file is missing, and once for all precisions, because tracing takes seconds.
    trace = trace or traced(product, graph)
    for precision in precisions:
        path = folder / f"{_stem(product.artifact, precision)}.onnx"
        onnx_file = write_onnx(product, path, precision, overwrite, trace, fitter, graph)
        made.append(onnx_file)
        if engines and precision in engines.precisions:
            made.append(write_engine(onnx_file, engines, engine_path(onnx_file, engines, folder), overwrite))
    return made


def traced(product: Product, graph: GraphSettings = GraphSettings()) -> Callable[[], ModelProto]:  # noqa: B008
    """Return a function that traces a product when it is first called."""
    return cache(lambda: trace_onnx(product.module, product.shape, graph.opset))


def _stem(record: ProductFile | OnnxFile, precision: str) -> str:
    return f"{file_stem(record.model['name'])}-{record.product}-{precision}"


def engine_path(onnx_file: OnnxFile, engines: EnginePlan, folder: Path) -> Path:
    """Return ``FOLDER/STUDENT-PRODUCT-PRECISION.engine``, with the targets if there are any."""
    target = "".join(f"-sm{capability}" for capability in engines.settings.compute_capability)
    return folder / f"{_stem(onnx_file, onnx_file.precision)}{target}.engine"


def write_onnx(
    product: Product,
    path: Path,
    precision: OnnxPrecision,
    overwrite: bool = False,
    trace: Callable[[], ModelProto] | None = None,
    fitter: HalfFitter | None = None,
    graph: GraphSettings = GraphSettings(),  # noqa: B008, frozen
) -> OnnxFile:
    """Write a product as one ONNX file, with its sidecar.

    Args:
        product: A product from a file or in memory.
        path: Output file.
        precision: ``fp32`` or ``fp16``.
        overwrite: Whether a file made with other settings may be replaced.
        trace: Returns the traced product, if several files share it.
        fitter: Fits fp16 to images; without it, only the weights are judged.
        graph: How the file is written.

    Raises:
        UsageError: the path belongs to another file.
        GateError: fp16 misses its gate; nothing is written.
        ImfDeployError: the network cannot be exported.
    """
    record = product.artifact
    trace = trace or traced(product, graph)
    fitter = fitter if precision == "fp16" else None
    accuracy = {key: getattr(record, key) for key in ("accuracy", "validation_accuracy")}
    fitted_by = [fitter.key] if fitter else []
    recipe = fingerprint(
        ["onnx", FORM, record.sha256, precision, accuracy, asdict(graph), versions(), *fitted_by]
    )
    if made := claim(OnnxFile, path, recipe, overwrite):
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
    fitted = fitter.fit(product, trace) if fitter else _by_weights(trace(), precision)
    half = fitted.half if fitted else None
    kept = [node.node for node in half.kept] if half else []
    model = fitted.model if fitted and fitted.model else trace()
    info = save_onnx(model, path, precision, metadata, kept)
    return OnnxFile(
        path=path,
        sha256=sha256_file(path),
        parent=record.sha256,
        recipe=recipe,
        precision=precision,
        inputs={INPUT: ["batch", *product.shape]},
        outputs={OUTPUT: ["batch", record.preprocess.num_classes]},
        source=record.sha256,
        operators=dict(info.operators),
        opset=info.opset,
        half=half and replace(half, casts=info.operators.get("Cast", 0)),
        **carried(record),
    ).save()


def _by_weights(traced: ModelProto, precision: OnnxPrecision) -> Fitted | None:
    """Return the fit of a product whose activations are not known; ``None`` if its weights fit."""
    kept = find_kept(traced) if precision == "fp16" else []
    return Fitted(HalfFit(kept=kept, casts=0)) if kept else None


def write_engine(onnx_file: OnnxFile, engines: EnginePlan, path: Path, overwrite: bool = False) -> EngineFile:
    """Build an engine from an ONNX file, and write it with its sidecar.

    With ``strip_weights`` a plan without weights is written next to it, ``…-stripped.engine``.

    Args:
        onnx_file: The record of the ONNX file.
        engines: How to build the engine.
        path: Output file.
        overwrite: Whether a file made with other settings may be replaced.

    Raises:
        UsageError: the path belongs to another file.
        ImfDeployError: TensorRT refuses the file.
    """
    if onnx_file.interface.suffix:
        raise UsageError(
            f"{onnx_file.path} has another interface ({onnx_file.interface.suffix}), and engines have none",
            "Use the file that it was made from",
        )
    gpu = None if engines.flavour == "rtx" else this_gpu()  # RTX engines are not bound to one
    recipe = fingerprint(["engine", onnx_file.sha256, engines.recipe(), str(gpu or ""), versions()])
    if made := claim(EngineFile, path, recipe, overwrite):
        return made
    with stage("engines"):
        info = build_engine(
            onnx_file.path,
            path,
            engines.flavour,
            engines.settings.batch,
            engines.settings.compute_capability,
            engines.settings,
            engines.settings.timing_cache,
        )
    engine = EngineFile(
        path=path,
        sha256=sha256_file(path),
        format="tensorrt_rtx" if engines.flavour == "rtx" else "tensorrt",
        parent=onnx_file.sha256,
        recipe=recipe,
        targets=list(info.header.targets),
        batch=profiles_text(info.batch),
        build=info.built,
        precision=onnx_file.precision,
        inputs=onnx_file.inputs,
        outputs=onnx_file.outputs,
        source=onnx_file.source,
        **carried(onnx_file),
    )
    if engines.settings.strip_weights:
        plan = stripped_path(path)
        engine.revised(path=plan, sha256=sha256_file(plan), stripped=True).save()
    return engine.save()
