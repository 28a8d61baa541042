"""Stage: write an ONNX file with another input or output beside the one that it is made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import onnx

from imf_deploy.artifact import claim
from imf_deploy.compat import versions
from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.export.interface import check_interface, with_interface
from imf_deploy.export.onnx_file import describe_onnx, read_model
from imf_deploy.export.portable import set_header
from imf_deploy.files import fingerprint, sha256_file, write_bytes
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings.export import InterfaceSettings


def interface_path(path: Path, interface: InterfaceSettings) -> Path:
    """Return ``NAME-SUFFIX.onnx`` for ``NAME.onnx``, such as ``net-plain-int8-uint8-nhwc-top5.onnx``."""
    return path.with_name(f"{path.stem}-{interface.suffix}.onnx")


def write_interface(
    origin: OnnxFile, interface: InterfaceSettings, path: Path | None = None, overwrite: bool = False
) -> OnnxFile:
    """Write a file with another input or output, and its sidecar, which names the origin as its parent.

    Args:
        origin: A file with float input and logits.
        interface: The input and output of the new file.
        path: Output file; by default :func:`interface_path`.
        overwrite: Whether a file made with other settings may be replaced.

    Raises:
        UsageError: the interface does not fit the images of the network, or the path belongs to another file.
        ImfDeployError: the origin has another interface already.
    """
    check_interface(interface, origin.preprocess)
    path = path or interface_path(origin.path, interface)
    recipe = fingerprint(["interface", origin.sha256, asdict(interface), versions()])
    if made := claim(OnnxFile, path, recipe, overwrite):
        return made
    model = with_interface(read_model(origin.path), interface, origin.preprocess)
    set_header(model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, dict(sorted((metadata | asdict(interface)).items())))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ImfDeployError(f"{path} would not be valid ({first_line(error)})") from error
    write_bytes(path, model.SerializeToString(deterministic=True))
    info = describe_onnx(path)
    return origin.revised(
        path=path,
        sha256=sha256_file(path),
        parent=origin.sha256,
        recipe=recipe,
        inputs=info.inputs,
        outputs=info.outputs,
        operators=dict(info.operators),
        opset=info.opset,
        interface=interface,
        verify=None,
    ).save()
