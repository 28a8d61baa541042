"""Every file of one product: float files, and INT8 files for every requested runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imf_deploy.calib.half import HalfOnImages
from imf_deploy.calib.stage import calibrate
from imf_deploy.calib.worth import decide, engine_speed
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError
from imf_deploy.export.flavour import this_gpu
from imf_deploy.export.onnx_writer import OnnxPrecision
from imf_deploy.export.stage import EnginePlan, engine_path, export, traced, write_engine
from imf_deploy.method.products import Product
from imf_deploy.records.files import DeployableFile, EngineFile, OnnxFile, sidecar_path
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.settings import GraphSettings, QuantizeSettings
from imf_deploy.settings.export import Precision
from imf_deploy.stages import stage


def export_product(
    product: Product,
    data: DataSet,
    precisions: Sequence[Precision],
    config: QuantizeSettings,
    engines: EnginePlan | None,
    folder: Path,
    overwrite: bool = False,
    graph: GraphSettings = GraphSettings(),  # noqa: B008, frozen
) -> tuple[list[DeployableFile], list[str]]:
    """Write a product in each precision, as ONNX files and engines.

    Args:
        product: The product, evaluated, so that its files contain its accuracy.
        data: Data that INT8 is calibrated and judged on.
        precisions: See :meth:`imf_deploy.export.choice.FileChoice.written`.
        config: How INT8 is made, with at most as many images as there are; and the gate of every file, which
            its record keeps.
        engines: How to build engines, and in which precisions; ``None`` builds none.
        folder: Output folder.
        overwrite: Whether files made with other settings may be replaced.
        graph: How ONNX files are written.

    Returns:
        The artifacts, each after the one that it was made from; and for each declined fp16 or INT8 file, the
        reason.

    Raises:
        ImfDeployError: the network cannot be exported, or a target refuses it.
    """
    made: list[DeployableFile] = []
    declined: list[str] = []
    with stage("export"):
        floats: list[OnnxPrecision] = [precision for precision in precisions if precision != "int8"]
        trace = traced(product, graph)
        for precision in floats:
            fitter = HalfOnImages(data, config, folder, made[0].path if made else None)
            try:
                made += export(product, [precision], engines, folder, overwrite, trace, fitter, graph)
            except GateError as error:
                declined.append(error.what)
    if "int8" in precisions:
        images = min(config.images, len(data.train))
        with stage("calibrate"):
            quantised, missed = export_int8(
                product, made, data, replace(config, images=images), engines, folder, overwrite
            )
        made += quantised
        declined += missed
    # A later verification applies the gate that the file was made for.
    return [file.revised(gate=config.gate).save() for file in made], declined


def export_int8(
    product: Product,
    floats: Sequence[DeployableFile],
    data: DataSet,
    config: QuantizeSettings,
    engines: EnginePlan | None,
    folder: Path,
    overwrite: bool = False,
) -> tuple[list[DeployableFile], list[str]]:
    """Write the INT8 files of a product from its fp32 ONNX file.

    A file is declined if it is not faster than the float files, unless ``keep_int8`` is set. For TensorRT
    this is decided if a GPU of this machine runs the engines; the file's record states otherwise.

    Args:
        product: The PyTorch model.
        floats: Its float files, the fp32 ONNX file first.
        data: Images to calibrate and judge on.
        config: Settings; the target is set for each file. Layers are ranked only for ONNX Runtime's CPU, if
            ``rank`` is set, and whenever some have to return to float.
        engines: How to build the engine; without an INT8 engine, only the file for ONNX Runtime's CPU is
            made.
        folder: Output folder.
        overwrite: Whether files made with other settings may be replaced.

    Returns:
        The artifacts: for ONNX Runtime, then for TensorRT, then the engine. And the reason for each target
        that missed its gate or is not faster: such a product is deployed in float.

    Raises:
        ImfDeployError: a target refuses the model.
    """
    fp32, *others = (file for file in floats if isinstance(file, OnnxFile))
    made: list[DeployableFile] = []
    declined = []
    try:
        made.append(
            calibrate(
                fp32.path,
                data,
                replace(config, target="onnxruntime-cpu"),
                folder,
                overwrite=overwrite,
                rivals=[file.path for file in others],
            )
        )
    except GateError as error:
        declined.append(error.what)
    if engines and "int8" in engines.precisions:
        try:
            quantised = calibrate(
                fp32.path, data, replace(config, target="tensorrt", rank=False), folder, overwrite=overwrite
            )
            engine = write_engine(quantised, engines, engine_path(quantised, engines, folder), overwrite)
            if not config.keep_int8:
                quantised = _timed(quantised, engine, floats)
            made += [quantised, engine]
        except GateError as error:
            declined.append(error.what)
    return made, declined


def _timed(quantised: OnnxFile, engine: EngineFile, floats: Sequence[DeployableFile]) -> OnnxFile:
    """Return the record of an INT8 file with the speed of its engine, if a GPU of this machine runs it.

    Raises:
        GateError: the engine is not faster than the float engines; it and its ONNX file are removed.
    """
    known, gpu = quantised.calibration, this_gpu()
    others = [file.path for file in floats if file.kind == "engine" and not why_not_here(file.path)]
    if not (known and gpu and others) or why_not_here(engine.path):
        return quantised
    speed = known.speed
    if speed is None or speed.processor != str(gpu):
        speed = engine_speed(engine.path, others, engine.preprocess, str(gpu))
        quantised = quantised.revised(calibration=replace(known, speed=speed, speed_unknown="")).save()
    try:
        decide(f"{quantised.path.name} on tensorrt", speed)
    except GateError:
        for file in (engine, quantised):
            sidecar_path(file.path).unlink()
            file.path.unlink()
        raise
    return quantised
