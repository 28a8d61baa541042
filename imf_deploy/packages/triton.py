"""A model repository of Triton Inference Server, which KServe loads too."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.files import write_error, write_text
from imf_deploy.packages.card import card
from imf_deploy.packages.files import place_file, read_template, write_labels
from imf_deploy.packages.source import Source
from imf_deploy.packages.vectors import write_vectors
from imf_deploy.records.files import EngineFile, OnnxFile
from imf_deploy.settings.export import InterfaceSettings, parse_profiles

LARGEST_BATCH = 32
_HOW = """\
    tritonserver --model-repository=$PWD/models
    pip install 'tritonclient[http]' numpy
    python client.py --check

KServe loads the same folder. `models/NAME` takes images of the network's size as bytes. The server puts
requests together into batches of up to {batch}, and runs each model once before it is ready."""
_PLAN = """\

`models/{name}` is the TensorRT engine of the run, with normalised float input, for GPUs like that of the
machine that built it."""


def write(source: Source, folder: Path) -> None:
    """Write ``models/NAME/config.pbtxt`` and ``1/model.onnx``, and the same for an engine of the run."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", source.name)
    known = source.preprocess.resize != "input"
    place = folder / "models" / name
    file = place_file(
        source,
        source.file,
        place / "1" / "model.onnx",
        InterfaceSettings(input="uint8-nhwc") if known else None,
    )
    write_labels(place, source)
    write_text(place / "config.pbtxt", config(name, file))
    how = _HOW.format(batch=LARGEST_BATCH)
    if engine := _engine(source):
        how += _PLAN.format(name=f"{name}_tensorrt")
        _write_engine(source, engine, folder / "models" / f"{name}_tensorrt")
    write_labels(folder, source)
    write_vectors(folder, source, file)
    write_text(folder / "client.py", read_template("triton_client.py").replace("NAME", name))
    write_text(folder / "README.md", card(source, [file], how))


def config(name: str, file: OnnxFile | EngineFile) -> str:
    """Return ``config.pbtxt`` of a file, as Triton's ``model_config.proto`` defines it."""
    ((given, shape),) = file.inputs.items()
    ((result, answers),) = file.outputs.items()
    engine = file if isinstance(file, EngineFile) else None
    bytes_in = isinstance(file, OnnxFile) and file.interface.input != "float"
    kind = "TYPE_UINT8" if bytes_in else "TYPE_FP32"
    dims = ", ".join(map(str, shape[1:]))
    largest = max(profile.max for profile in parse_profiles(engine.batch)) if engine else LARGEST_BATCH
    return f"""\
name: {json.dumps(name)}
platform: "{"tensorrt_plan" if engine else "onnxruntime_onnx"}"
max_batch_size: {min(largest, LARGEST_BATCH)}
input [
  {{ name: "{given}" data_type: {kind} dims: [ {dims} ] }}
]
output [
  {{ name: "{result}" data_type: TYPE_FP32 dims: [ {answers[1]} ] label_filename: "labels.txt" }}
]
dynamic_batching {{ max_queue_delay_microseconds: 100 }}
instance_group [
  {{ count: 1 kind: {"KIND_GPU" if engine else "KIND_AUTO"} }}
]
model_warmup [
  {{
    name: "one image"
    batch_size: 1
    inputs {{
      key: "{given}"
      value: {{ data_type: {kind} dims: [ {dims} ] random_data: true }}
    }}
  }}
]
"""


def _engine(source: Source) -> EngineFile | None:
    """Return a TensorRT engine of the product that passed; Triton does not run those of TensorRT-RTX."""
    for row in source.report.artifacts:
        if (row.format, row.product, row.status) == ("tensorrt", source.row.product, "pass"):
            return load_artifact(source.run / row.path, EngineFile)
    return None


def _write_engine(source: Source, engine: EngineFile, folder: Path) -> None:
    path = folder / "1" / "model.plan"
    try:
        path.parent.mkdir(parents=True)
        shutil.copyfile(engine.path, path)
    except OSError as error:
        raise write_error(path, error) from error
    engine.revised(path=path, data_config=None).save()
    write_labels(folder, source)
    write_text(folder / "config.pbtxt", config(folder.name, engine))
