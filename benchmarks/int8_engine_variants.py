"""Find the fastest form of INT8 for TensorRT: build several placements of Q/DQ and measure each against fp16.

    python benchmarks/int8_engine_variants.py --seeds mobilenetv2:plain:28,resnet18:plain:224 --batch 1,64
    python benchmarks/int8_engine_variants.py --check        # accuracy in ONNX Runtime, builds; needs no GPU

For each form it prints the types that the convolutions of the engine read and write, the number of layers
that only reformat, and the latency against the fp16 engine, in alternating rounds. ``--check`` compares each
form with the float network in ONNX Runtime without its optimisations, and lets TensorRT parse and build it.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from gpu_networks import IMAGES, Network, networks_of, write_int8
from gpu_rivals import engine_runner, why_not
from int8_latency import images_of
from onnx import helper, numpy_helper

from imf_deploy.benchmark.gpu import gpu_parts
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.placement import Placement
from imf_deploy.calib.quantize import PLACEMENT
from imf_deploy.export.engine_form import Floats, engine_source
from imf_deploy.export.flavour import choose_flavour
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.files import write_bytes, write_json
from imf_deploy.runners.base import Runner
from imf_deploy.runners.engine_layers import EngineLayer, short_type
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.settings import BatchRange, BuildSettings
from imf_deploy.tasks.classification import same_class

ROUNDS, LOADS, WARMUP_S = 36, 6, 0.1
LAYER_RUNS = 20


@dataclass(frozen=True)
class Form:
    """One way to quantise a network.

    Attributes:
        placement: Positions of Q/DQ.
        floats: Type that the engine computes in where it is not quantised.
        left: Chooses the layers that stay in float.
        float_weights: Whether weights are floats behind a Q and a DQ, which TensorRT rounds itself.
    """

    placement: Placement = PLACEMENT
    floats: Floats = "fp16"
    left: Callable[[FloatModel], Sequence[str]] = lambda model: ()
    float_weights: bool = False


def depthwise(model: FloatModel) -> list[str]:
    """Return the names of depthwise convolutions."""
    return [
        node.name
        for node in model.proto.graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]


def ends(model: FloatModel) -> list[str]:
    """Return the names of the first convolution and of the last layer with weights."""
    return [model.layers[0].name, [layer for layer in model.layers if layer.op_type == "Gemm"][-1].name]


FORMS: dict[str, Form] = {
    "as before: fp32 floats": Form(Placement("shared", relu=False), "fp32"),
    "fp16 floats": Form(Placement("shared", relu=False)),
    "fp16 floats, int8 sums, Relu": Form(),
    "depthwise in fp16": Form(left=depthwise),
    "depthwise, first and last in fp16": Form(left=lambda model: [*depthwise(model), *ends(model)]),
    "both inputs of sums": Form(Placement("both", relu=True)),
    "first and last in fp16": Form(left=ends),
    "int8 sums, Clip": Form(Placement("skip", relu=False)),
    "fp32 floats, int8 sums, Relu": Form(floats="fp32"),
    "float weights behind Q and DQ": Form(float_weights=True),
}
"""The forms in order of priority."""


def write_forms(network: Network, folder: Path, count: int) -> dict[str, Path]:
    """Write the INT8 files of the first forms."""
    images, _ = images_of(network.size, IMAGES)
    model = open_float_model(network.files["fp32"])
    files = {}
    for index, (name, form) in enumerate(list(FORMS.items())[:count]):
        path = folder / f"{network.files['fp32'].stem}-form{index}.onnx"
        if not path.is_file():
            left = tuple(form.left(model))
            write_int8(network.files["fp32"], path, images, form.placement, form.floats, left)
            if form.float_weights:
                write_bytes(path, with_float_weights(onnx.load(path)).SerializeToString())
        files[name] = path
    return files


def with_float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put floats and a Q in place of each int8 weight, before its DQ, in place; return the model."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            levels, scales = (numpy_helper.to_array(tensors[name]) for name in node.input[:2])
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            shape = [-1 if place == axis else 1 for place in range(levels.ndim)] if scales.ndim else []
            name = f"{node.input[0]}_float"
            values = (levels * scales.reshape(shape)).astype(np.float32)
            tensors[node.input[0]].CopyFrom(numpy_helper.from_array(values, name))
            nodes.append(
                helper.make_node("QuantizeLinear", [name, *node.input[1:]], [f"{name}_q"], axis=axis)
            )
            node.input[0] = f"{name}_q"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def check(network: Network, forms: Mapping[str, Path], profile: BatchRange) -> None:
    """Print how the answers of each form differ from the float network's, and whether TensorRT builds it."""
    images, preprocess = images_of(network.size, IMAGES)
    batch = preprocess.normalize(images.fetch(torch.arange(IMAGES))).numpy()
    reference = answers(network.files["fp32"].read_bytes(), batch)
    flavour = choose_flavour("auto").flavour
    print("| form | same class | cosine | engine MB |\n|---|---|---|---|")
    for name, path in forms.items():
        found = answers(engine_source(path) or path.read_bytes(), batch)
        cosine = (found * reference).sum() / np.linalg.norm(found) / np.linalg.norm(reference)
        size = ""
        if flavour:
            built = path.with_suffix(".engine")
            build_engine(path, built, flavour, profile)
            size = f"{built.stat().st_size / 1e6:.1f}"
        same = same_class(found, reference).mean()
        print(f"| {name} | {same:.0%} | {cosine:.4f} | {size} |", flush=True)


def answers(content: bytes, batch: np.ndarray) -> np.ndarray:
    """Return the logits of a model in ONNX Runtime, which runs it unchanged."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return logits


def summary(layers: Sequence[EngineLayer]) -> dict[str, int]:
    """Return the numbers of convolutions by the types they read and write, and of reformatting layers."""
    kinds: Counter[str] = Counter()
    for layer in layers:
        kind = layer.kind.lower()
        if "conv" in kind or "gemm" in kind:
            read, written = (
                short_type(formats[0]) if formats else "?" for formats in (layer.inputs, layer.outputs)
            )
            kinds[f"{read} -> {written} layers"] += 1
        else:
            kinds["reformats" if "reformat" in kind or "reformat" in layer.name.lower() else "other"] += 1
    return dict(kinds)


def profile_form(path: Path, shape: tuple[int, ...]) -> list[EngineLayer]:
    """Return the layers of an engine with their times."""
    with TensorRTRunner(path, cuda_graph=False) as runner:
        return runner.layers(np.zeros(shape, np.float32), LAYER_RUNS)


def compare(network: Network, forms: Mapping[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Build the engines, print their layers and latencies, and return everything for JSON."""
    flavour = choose_flavour("auto").flavour
    if not flavour:
        raise SystemExit("no TensorRT is installed")
    profile = BatchRange.parse(options.profile)
    engines: dict[str, Path] = {}
    result: dict[str, Any] = {"network": network.name, "forms": {}, "latencies": []}
    for name, source in {"fp16": network.files["fp16"], **forms}.items():
        if time.monotonic() > options.deadline:
            print(f"Left out, the budget is used up: {name}", flush=True)
            continue
        path = source.with_suffix(".engine")
        began = time.monotonic()
        try:
            build_engine(source, path, flavour, profile, options=BuildSettings(builder_level=options.level))
            layers = profile_form(path, (profile.opt, 3, network.size, network.size))
        except Exception as error:  # the other forms are still built
            print(f"- {name} does not run: {' '.join(str(error).split())[:300]}", flush=True)
            continue
        engines[name] = path
        seconds, size = time.monotonic() - began, path.stat().st_size
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(summary(layers).items()))
        total = sum(layer.milliseconds or 0 for layer in layers)
        print(f"- {name}: {size / 1e6:.1f} MB, {seconds:.0f} s; {total:.3f} ms in {told}", flush=True)
        result["forms"][name] = {"bytes": size, "layers": [layer.to_dict() for layer in layers]}
    for batch in map(int, options.batch.split(",")):
        result["latencies"] += latencies(network, engines, batch, options.duration)
    return result


def latencies(
    network: Network, engines: Mapping[str, Path], batch: int, duration: float
) -> list[dict[str, Any]]:
    """Measure all engines in alternating rounds; print and return their latencies against fp16."""
    shape = (batch, 3, network.size, network.size)
    runners: dict[str, Runner] = {name: engine_runner(path) for name, path in engines.items()}
    runners = {name: runner for name, runner in runners.items() if not why_not(runner, shape)}
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    found = measure(runners, images, duration_s=duration, warmup_s=WARMUP_S, rounds=ROUNDS, loads=LOADS)
    print(f"\n{network.name}, batch {batch}\n\n| form | p50 ms | GPU compute ms | as fast as fp16 |")
    print("|---|---|---|---|")
    rows = []
    for name, latency in found.items():
        parts = gpu_parts(runners[name], images, duration / 4, 10, WARMUP_S)
        compute = f"{parts['compute_ms']['p50']:.3f}" if parts else ""
        faster = ratio(found["fp16"], latency)
        print(
            f"| {name} | {latency.p50:.3f} | {compute} | {faster.value:.2f} ({faster.low:.2f} to "
            f"{faster.high:.2f}) |",
            flush=True,
        )
        speed = [faster.value, faster.low, faster.high]
        rows.append({"form": name, "batch": batch, "speed": speed, "gpu_ms": parts, **latency.to_dict()})
    return rows


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="run folders or stripped students")
    parser.add_argument("--seeds", default="mobilenetv2:plain:28,mobilenetv2:plain:224,resnet18:plain:224")
    parser.add_argument("--pixels", default="28,224")
    parser.add_argument("--batch", default="1,8,64,256")
    parser.add_argument("--profile", default="1:8:256", help="batch range of the engines")
    parser.add_argument("--level", type=int, help="how much TensorRT's builder tries, 0 to 5")
    parser.add_argument("--forms", type=int, default=len(FORMS), help="build only the first ones")
    parser.add_argument("--duration", type=float, default=0.7, help="seconds for each row")
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds after which no engine is built")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu-engines"), help="folder of files")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="only accuracy and builds; needs no GPU")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.budget
    onnxruntime.set_default_logger_severity(4)
    pixels = {int(word) for word in options.pixels.split(",")}
    results = []
    for make in networks_of(options.inputs, options.seeds, pixels, options.output):
        network = make()
        print(f"\n### {network.name}\n", flush=True)
        forms = write_forms(network, options.output, options.forms)
        if options.check:
            check(network, forms, BatchRange.parse(options.profile))
            continue
        results.append(compare(network, forms, options))
        if options.json:
            write_json(options.json, {"results": results})


if __name__ == "__main__":
    main()
