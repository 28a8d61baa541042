"""Stage: make an fp16 ONNX file from an fp32 one of any exporter."""

from dataclasses import asdict, replace
from pathlib import Path

import onnx
from onnx import ModelProto

from imf_deploy.artifact import claim
from imf_deploy.calib.half import fit_half
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.stage import check_data
from imf_deploy.compat import versions
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError, first_line
from imf_deploy.export.half import to_half
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.files import fingerprint, sha256_file, write_bytes
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.records.files import OnnxFile, carried
from imf_deploy.settings import HalfSettings, QuantizeSettings
from imf_deploy.verification.metrics import Metrics, check_gate


def to_fp16(
    path: Path,
    data: DataSet,
    config: HalfSettings,
    folder: Path,
    preprocess: Preprocess | Path | None = None,
    overwrite: bool = False,
    logits: str = "",
) -> OnnxFile:
    """Write ``FOLDER/NAME-fp16.onnx`` with its sidecar; inputs and outputs stay fp32.

    Nodes stay in fp32 where :func:`imf_deploy.calib.half.fit_half` finds that they must. A file that the same
    model, images and settings already made is returned unchanged.

    Args:
        path: A float32 ONNX classifier.
        data: Its training split gives the ranges, its validation split the gate.
        config: Number and seed of the images, and the gate.
        folder: Output folder; ranges are stored in its ``calib`` folder.
        preprocess: Preprocessing for files that do not contain it.
        overwrite: Whether a file made with other settings may be replaced.
        logits: Name of the output that holds the logits; if empty, the output that fits the labels.

    Raises:
        UsageError: there are no images, the model is not float32 or has no preprocessing, no output fits the
            labels, or the data differs from the model's.
        GateError: fp16 misses the gate with half of its layers in fp32; nothing is written.
        ImfDeployError: the model is damaged, or cannot be converted.
    """
    model = open_float_model(path, preprocess, logits)
    check_data(model, data)
    if not len(data.train):
        raise UsageError(f"{data.name} has no training images to measure activations on", "Use other data")
    metrics = Metrics.of(config.gate, data.preprocess)
    output = folder / f"{path.stem.removesuffix('-fp32')}-fp16.onnx"
    recipe = fingerprint(
        ["fp16", model.identity, model.logits, asdict(config), data.fingerprint, asdict(model.preprocess),
         versions(), *(each.identity for each in metrics.own)]
    )  # fmt: skip
    if made := claim(OnnxFile, output, recipe, overwrite):
        return made
    check_gate(config.gate, data, ["validation"])
    for note in model.notes:
        say(note)
    settings = QuantizeSettings(images=config.images, seed=config.seed, gate=config.gate)
    half = fit_half(model, data, settings, folder).half
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    proto = to_half(proto, {node.node for node in half.kept})
    metadata = model.metadata | model.preprocess.metadata() | {"precision": "fp16"}
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ImfDeployError(
            f"{path} cannot be converted to fp16 ({first_line(error)})", "Use fp32"
        ) from error
    write_bytes(output, proto.SerializeToString(deterministic=True))
    written = describe_onnx(output)
    return OnnxFile(
        path=output,
        sha256=sha256_file(output),
        parent=model.artifact.sha256,
        recipe=recipe,
        precision="fp16",
        inputs=written.inputs,
        outputs=written.outputs,
        source=model.artifact.source,
        operators=dict(written.operators),
        opset=written.opset,
        gate=config.gate,
        half=replace(half, casts=written.operators.get("Cast", 0)),
        **carried(model.artifact) | {"preprocess": model.preprocess},
    ).save()
