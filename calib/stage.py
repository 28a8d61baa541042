"""Stage: make an INT8 ONNX file from a float one: calibrate, rank, repair, and pass the gate."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imf_deploy.artifact import claim
from imf_deploy.calib.engine_floats import choose_floats
from imf_deploy.calib.float_layers import integer_layers, running_operators
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.quantize import PLACEMENT, int8_metadata, layers_of
from imf_deploy.calib.ranges import CacheKey, cached_ranges, measure_ranges, method_key
from imf_deploy.calib.repair import repair
from imf_deploy.calib.score import (
    content_logits,
    file_logits,
    model_predict,
    model_runner,
    rank_layers,
    score,
)
from imf_deploy.calib.slow_layers import return_slow_layers
from imf_deploy.calib.steps import Form, improve, write
from imf_deploy.calib.worth import cpu_speed, decide
from imf_deploy.compat import cpu_model, versions
from imf_deploy.data import DataSet
from imf_deploy.data.choice import choose_images, hash_images
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.engine_form import ENGINE_FLOATS
from imf_deploy.export.flavour import choose_flavour
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.tensorrt_writer import check_readable
from imf_deploy.files import fingerprint, sha256_file, write_bytes
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.records.files import OnnxFile, carried
from imf_deploy.records.making import Calibrated, LayerHarm, Output, Score
from imf_deploy.settings import QuantizeSettings
from imf_deploy.verification.doubt import doubt
from imf_deploy.verification.ladder import Array
from imf_deploy.verification.metrics import Metrics, check_gate

KEPT = "it was kept without timing it (`keep_int8`)"
NO_GPU = "no GPU has run an engine of it"
_SUFFIX = {"onnxruntime-cpu": "int8", "tensorrt": "int8-trt"}


def calibrate(
    path: Path,
    data: DataSet,
    config: QuantizeSettings,
    folder: Path,
    preprocess: Preprocess | Path | None = None,
    ranges_file: Path | None = None,
    overwrite: bool = False,
    logits: str = "",
    output: Path | None = None,
    rivals: Sequence[Path] = (),
) -> OnnxFile:
    """Write ``FOLDER/STUDENT-PRODUCT-int8.onnx`` (``-int8-trt.onnx`` for TensorRT), with its sidecar.

    A file that the same model, images and settings already made is returned unchanged.

    Args:
        path: A float32 ONNX classifier.
        data: Its training split gives the ranges, its validation split the ranking and the gate.
        config: Target, method, images and gate.
        folder: Output folder; ranges are stored in its ``calib`` folder.
        preprocess: Preprocessing for files that do not contain it.
        ranges_file: File that stores the ranges, instead of one in the ``calib`` folder.
        overwrite: Whether a file made with other settings may be replaced.
        logits: Name of the output that holds the logits; if empty, the output that fits the labels.
        output: The file to write, in ``folder``, under another name.
        rivals: Other float files of the same network that ONNX Runtime reads; the INT8 file for its CPU
            provider has to be faster than these and ``path``.

    Returns:
        The record of the file; see :class:`imf_deploy.records.making.Calibrated`.

    Raises:
        UsageError: there are too few images, the model is quantised or has no preprocessing, no output fits
            the labels, the data differs from the model's, or the cache belongs to something else.
        GateError: INT8 misses the gate even after repair, or is not faster; nothing is written.
        ImfDeployError: the model is damaged, or the target refuses it.
    """
    model = open_float_model(path, preprocess, logits)
    check_data(model, data)
    if config.images > (most := len(data.train)):
        raise UsageError(
            f"{config.images} calibration images were requested, but there are only {most} training images",
            f"Use `images` {most} or fewer",
        )
    images = choose_images(data.train, config.images, config.seed)
    images_hash = hash_images(images)
    record = model.artifact
    output = output or folder / f"{path.stem.removesuffix('-fp32')}-{_SUFFIX[config.target]}.onnx"
    form = asdict(PLACEMENT) if config.target == "tensorrt" else {}
    metrics = Metrics.of(config.gate, data.preprocess)
    recipe = fingerprint(
        ["int8", model.identity, model.logits, asdict(config), form, images_hash, data.fingerprint,
         asdict(model.preprocess), versions(), *(each.identity for each in metrics.own)]
    )  # fmt: skip
    if made := claim(OnnxFile, output, recipe, overwrite):
        return made
    check_gate(config.gate, data, ["validation"])
    for note in model.notes:
        say(note)
    reference = file_logits(path, model, data.validation)
    if not np.isfinite(reference).all():
        raise ImfDeployError(
            f"some logits of {path} are not finite on the validation images", "Check the model in float first"
        )
    if reason := _doubt(model, data, reference):
        say(
            f"Warning: {path} in float: {reason}. Check the preprocessing and the order of the labels",
            logging.WARNING,
        )
    # Raises with the name of an unsupported operator before any work is done.
    checked_with = _check_tensorrt(path) if config.target == "tensorrt" else "onnxruntime"
    prepared = fingerprint(asdict(model.preprocess))
    key = CacheKey(model.identity, images_hash, prepared, method_key(config.method))
    ranges = cached_ranges(
        ranges_file or key.path(folder / "calib"), key, lambda: measure_ranges(model, images, config.method)
    )
    floats = choose_floats(model, ranges, images, _check_tensorrt) if config.target == "tensorrt" else None
    chosen, steps = improve(Form(model, ranges, config.method), images, data.validation, config)
    about: dict[str, Any] = {
        "target": config.target,
        **({"cpus": config.int8_cpus} if config.target == "onnxruntime-cpu" else {}),
        **({ENGINE_FLOATS: floats} if floats else {}),
        "method": config.method,
        "images": config.images,
        "steps": [step.name for step in steps if step.kept],
        "images_sha256": images_hash,
        "logits": {"output": model.logits, "probabilities": model.probabilities},
    }
    labels = data.validation.labels.numpy()
    layers = len(layers_of(model, config.target))

    @cache
    def ranking() -> list[LayerHarm]:
        return rank_layers(
            chosen.model,
            chosen.ranges,
            config.target,
            data.validation,
            config.sensitivity_images,
            config.seed,
            config.int8_cpus,
            chosen.rounding,
        )

    def attempt(excluded: tuple[str, ...]) -> tuple[bytes, Score]:
        metadata = int8_metadata(model, about | {"float_layers": list(excluded)})
        content = write(chosen, config, excluded, metadata)
        return content, score(
            content_logits(content, model, data.validation),
            reference,
            labels,
            data.preprocess.task,
            metrics,
        )

    repaired = repair(
        attempt,
        lambda: [harm.layer for harm in ranking()],
        layers,
        config.gate,
        int(layers * config.max_float_layers),
        f"{path.name} on {config.target}",
    )
    timed = config.target == "onnxruntime-cpu" and not config.keep_int8
    if timed and config.effort == "best":
        repaired = return_slow_layers(
            repaired,
            attempt,
            lambda floats: write(chosen, config, floats),
            [layer.name for layer in layers_of(model, config.target)],
            model.preprocess,
            config.gate,
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-") as temporary:
        candidate = Path(temporary) / output.name
        candidate.write_bytes(repaired.content)
        _check(candidate, config)
        running = running_operators(candidate)
        kept = None if ranges_file else folder / "calib"
        speed = cpu_speed(candidate, [path, *rivals], model.preprocess, kept) if timed else None
    if speed:
        decide(f"{path.name} on {config.target}", speed)
    ranked = ranking() if config.rank or repaired.excluded else []
    calibration = Calibrated(
        **about | {"logits": Output(model.logits, model.probabilities), "steps": steps},
        seed=config.seed,
        layers=layers,
        float_layers=list(repaired.excluded),
        checked_with=checked_with,
        session_operators=running,
        session_integer_layers=integer_layers(running),
        cpu=cpu_model(),
        validation=repaired.score,
        tries=repaired.tries,
        sensitivity=ranked,
        doubt=reason,
        speed=speed,
        speed_unknown="" if speed else KEPT if config.keep_int8 else NO_GPU,
    )
    write_bytes(output, repaired.content)
    written = describe_onnx(output)
    return OnnxFile(
        path=output,
        sha256=sha256_file(output),
        parent=record.sha256,
        recipe=recipe,
        precision=written.precision,
        inputs=written.inputs,
        outputs=written.outputs,
        source=record.source,
        operators=dict(written.operators),
        opset=written.opset,
        gate=config.gate,
        calibration=calibration,
        **carried(record) | {"preprocess": model.preprocess},
    ).save()


def _check(path: Path, config: QuantizeSettings) -> None:
    """Let TensorRT parse a file that is for it; prove that no sum of another one saturates."""
    if config.target == "tensorrt":
        _check_tensorrt(path)
    elif config.int8_cpus == "all":
        _check_portable(path)


def check_data(model: FloatModel, data: DataSet) -> None:
    """Refuse data whose images give other input than the model was made for."""
    want, have = model.preprocess, data.preprocess
    # Mean and deviation are the model's own; the data only has to give the same pixels and classes.
    for name in ("size", "channels", "resize", "resize_to", "color", "labels"):
        if getattr(want, name) != getattr(have, name):
            raise UsageError(
                f"{data.name} has other preprocessing than {model.artifact.path} "
                f"({name}: {getattr(have, name)}, but the model needs {getattr(want, name)})",
                "Use the data that it was made for" if want.resize != "input" else "Give its `preprocess`",
            )
    if not len(data.validation):
        raise UsageError(
            f"{data.name} has no validation images to judge the file by", "Use a `val_fraction` above 0"
        )


def _doubt(model: FloatModel, data: DataSet, reference: Array) -> str:
    """Return why the float model's accuracy is suspect, or an empty string.

    Other orders of the classes and other preprocessing are tried for files without a record, because the
    record of a file of imf-deploy contains both.
    """
    if model.artifact.parent:
        return doubt(reference, data.validation, model.preprocess)
    with model_runner(model, model.artifact.path) as runner:
        return doubt(reference, data.validation, model.preprocess, model_predict(model, runner))


def _check_tensorrt(path: Path) -> str:
    """Let TensorRT parse a file, if it is installed; return the library's name, or why none could.

    Raises:
        ImfDeployError: TensorRT refuses the file; the message names the operator.
    """
    choice = choose_flavour("auto")
    if not choice.flavour:
        return f"not checked: {choice.reason}"
    check_readable(path, choice.flavour)
    return choice.flavour


def _check_portable(path: Path) -> None:
    """Prove that no input can make a sum saturate, from the operators that a session runs.

    Raises:
        ImfDeployError: an input can.
    """
    if saturating := open_session_graph(path).saturating:
        raise ImfDeployError(
            f"sums of {len(saturating)} layer(s) of {path.name} can saturate, such as "
            f"{min(saturating).partition(':')[2]}",
            "Please report this; `int8_cpus` vnni makes a file for processors with VNNI",
        )
