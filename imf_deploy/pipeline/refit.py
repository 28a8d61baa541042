"""Stage: an engine with the weights of another student of the same architecture."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from imf_deploy.artifact import claim, load_artifact
from imf_deploy.compat import versions
from imf_deploy.errors import GateError, ImfDeployError, UsageError
from imf_deploy.export.background import run_in_background
from imf_deploy.export.builder import open_session
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.export.refit import refit_plan
from imf_deploy.files import differences, fingerprint, sha256_file, write_bytes
from imf_deploy.method.products import load_product
from imf_deploy.records.checks import Rung
from imf_deploy.records.files import Artifact, EngineFile, OnnxFile, ProductFile, carried
from imf_deploy.records.making import RefitProof
from imf_deploy.runners.engine_facts import require_gpu
from imf_deploy.settings.export import parse_profiles
from imf_deploy.verification.ladder import Array, Tolerance, file_tolerance, step

_MOST_IMAGES = 32
_SAME = ("product", "precision", "inputs", "outputs")


def refit_engine(
    engine: Path, weights: Path, output: Path, trusted: Collection[str] = (), overwrite: bool = False
) -> EngineFile:
    """Write an engine with other weights, in seconds: tactics and shapes do not change.

    The new engine is compared with the ONNX form of the weights, in ONNX Runtime, on random images at each
    optimisation profile; it is written only if they agree.

    Args:
        engine: Engine built with ``strip_weights``, with or without its weights.
        weights: An ONNX file of the same architecture and precision, or stripped weights of it
            (``safetensors``), which are exported first; INT8 needs an ONNX file, which has its ranges.
        output: Output file.
        trusted: Factories whose code the user allows to run; see ``ModelSpec.from_dict``.
        overwrite: Whether another file at ``output`` may be replaced.

    Raises:
        UsageError: the engine or the weights have another type, or do not fit each other.
        DeviceError: there is no CUDA device, or not the one that the engine was built for.
        ImfDeployError: TensorRT refuses the weights.
        GateError: the answers of the new engine differ from those of its weights.
    """
    old, source = _checked(load_artifact(engine), load_artifact(weights))
    require_gpu(engine, read_engine_header(engine))
    recipe = fingerprint(["refit", old.sha256, source.sha256, versions()])
    if made := claim(EngineFile, output, recipe, overwrite):
        return made
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="imf-deploy-") as folder:
        onnx_path = weights
        if isinstance(source, ProductFile):
            onnx_path = Path(folder) / "weights.onnx"
            product = load_product(weights, trusted)
            export_onnx(product.module, onnx_path, _float(old), product.shape, {})
        plan = _refit(engine, onnx_path, host_code=old.built_with("version_compatible"))
        seconds = time.perf_counter() - start
        rungs = _verify(plan, old, onnx_path, Path(folder))
    if broken := [rung for rung in rungs if rung.status != "pass"]:
        raise GateError(
            f"{engine} with the weights of {weights} does not give their answers ({broken[0].reason})",
            "TensorRT folded some weights into constants: rebuild the engine from its ONNX file",
        )
    write_bytes(output, plan)
    return old.revised(
        path=output,
        sha256=sha256_file(output),
        parent=source.sha256,
        recipe=recipe,
        gate=None if isinstance(source, ProductFile) else source.gate,
        source=source.sha256 if isinstance(source, ProductFile) else source.source,
        verify=None,
        stripped=False,
        tools=versions(),
        refit=RefitProof(old.sha256, round(seconds, 3), rungs),
        **carried(source),
    ).save()


def _checked(old: Artifact, source: Artifact) -> tuple[EngineFile, ProductFile | OnnxFile]:
    """Refuse an engine and weights that do not belong together, before anything is loaded."""
    if not isinstance(old, EngineFile):
        raise UsageError(f"{old.path} is {old.title()}, not an engine", "Use ENGINE, then WEIGHTS")
    if old.format != "tensorrt" or not old.built_with("strip_weights"):
        raise UsageError(
            f"{old.path} was not built with `strip_weights`",
            "Build it with: imf-deploy export PRODUCT --trt tensorrt --strip-weights",
        )
    if not isinstance(source, ProductFile | OnnxFile):
        raise UsageError(
            f"{source.path} is {source.title()}, which has no weights for an engine",
            "Use an ONNX file, or a file of imf-deploy strip",
        )
    if isinstance(source, ProductFile) and old.precision == "int8":
        raise UsageError(
            f"{old.path} is an INT8 engine, but {source.path} has no ranges for its activations",
            "Use an INT8 ONNX file for TensorRT, as written by imf-deploy export",
        )
    names = _SAME if isinstance(source, OnnxFile) else ("product",)
    differ = [name for name in names if getattr(old, name) != getattr(source, name)]
    differ += [f"model.{name}" for name in differences(old.model, source.model)]
    if any(
        getattr(old.preprocess, name) != getattr(source.preprocess, name) for name in ("size", "num_classes")
    ):
        differ.append("image size or number of classes")
    if differ:
        raise UsageError(
            f"{source.path} has another architecture than {old.path} (different: {', '.join(differ)})",
            "Use weights of the same student and product",
        )
    return old, source


def _float(old: EngineFile) -> Any:
    if old.precision not in ("fp32", "fp16"):
        raise ImfDeployError(f"the record of {old.path} is damaged ('precision')", "Rebuild the engine")
    return old.precision


def _refit(engine: Path, onnx_path: Path, *, host_code: bool) -> bytes:
    plan = engine.read_bytes()[read_engine_header(engine).offset :]
    return run_in_background(
        lambda: refit_plan(open_session("tensorrt"), plan, onnx_path, host_code=host_code)
    )


def _verify(plan: bytes, old: EngineFile, onnx_path: Path, folder: Path) -> list[Rung]:
    """Compare a plan with an ONNX file on random images, at the batch of each optimisation profile.

    On random images classes mean little, so only the logits are held to the tolerance.
    """
    from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
    from imf_deploy.runners.tensorrt import TensorRTRunner

    path = folder / "refitted.engine"
    write_bytes(path, plan)
    old.revised(path=path, sha256=sha256_file(path), stripped=False).save()
    tolerance = Tolerance(file_tolerance("tensorrt", old.precision).relative)
    _, *shape = next(iter(old.inputs.values()))
    random = np.random.default_rng(0)
    rungs = []
    with TensorRTRunner(path) as runner, OnnxRuntimeRunner(onnx_path) as reference:
        for profile in parse_profiles(old.batch):
            size = max(min(profile.opt, _MOST_IMAGES), profile.min)
            images = random.standard_normal((size, *map(int, shape)), dtype=np.float32)
            logits: Array = runner.infer(images)
            rungs.append(
                step(f"batch {size}", "ONNX", logits, reference.infer(images), tolerance, old.preprocess.task)
            )
    return rungs
