"""Measure the gain of INT8: torchvision's MobileNetV2 in fp32 and INT8, in ONNX Runtime and OpenVINO.

Our export and calibration make the files. The weights are random, which changes no operator; batch statistics
are computed from the embedded images, so that ranges are realistic. All rows of one size are measured in
alternating rounds, on one thread at batch 1. OpenVINO is left out if it is not installed.

    python benchmarks/int8_latency.py --output runs/int8-latency

An idle machine narrows the intervals.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.calib.float_layers import integer_layers, running_operators
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.data import Split, open_data
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.files import write_bytes, write_json
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.preprocess import Preprocess
from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner
from imf_deploy.settings import DataSettings

CLASSES = {224: 1000, 32: 10}
BASELINE = "onnxruntime fp32"


def images_of(size: int, count: int) -> tuple[Split, Preprocess]:
    """Return embedded training images scaled to ``uint8 [count, 3, size, size]``, and their preprocessing."""
    data = open_data(DataSettings())
    pixels = data.train.fetch(torch.arange(count)).expand(-1, 3, -1, -1).float()
    scaled = nn.functional.interpolate(pixels, (size, size), mode="bilinear").round().clamp(0, 255)
    known = data.preprocess
    labels = tuple(str(index) for index in range(CLASSES.get(size, 10)))
    preprocess = Preprocess(size, "none", size, known.mean, known.std, labels)
    source = MemoryImages(scaled.to(torch.uint8), data.train.labels[:count])
    return Split.whole(source), preprocess


def make_files(size: int, folder: Path, count: int) -> dict[str, Path]:
    """Write the fp32 file and its INT8 form for ONNX Runtime's CPU."""
    images, preprocess = images_of(size, count)
    torch.manual_seed(0)
    module = build_model(ModelSpec.for_images("mobilenetv2", preprocess.num_classes, size))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over the batches that follow
    with torch.no_grad():
        for part in torch.split(torch.arange(count), 16):
            module.train()(preprocess.normalize(images.fetch(part)))
    files = {kind: folder / f"mobilenetv2-{size}-{kind}.onnx" for kind in ("fp32", "int8")}
    metadata = {"preprocess": json.dumps(asdict(preprocess))}
    export_onnx(module.eval(), files["fp32"], "fp32", size, metadata)
    model = open_float_model(files["fp32"])
    write_bytes(files["int8"], quantize(model, measure_ranges(model, images, "minmax"), "onnxruntime-cpu"))
    return files


def main() -> None:
    """Print a Markdown table and write ``int8-latency.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="224,32")
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds for each row")
    parser.add_argument("--output", type=Path, default=Path("runs/int8-latency"))
    options = parser.parse_args()
    before = conditions(options.threads)
    rows = []
    for size in map(int, options.sizes.split(",")):
        files = make_files(size, options.output, options.images)
        runners: dict[str, Runner] = {
            f"onnxruntime {kind}": OnnxRuntimeRunner(path, options.threads) for kind, path in files.items()
        }
        if importlib.util.find_spec("openvino"):
            for kind, path in files.items():
                runners[f"openvino {kind}"] = OpenVinoRunner(path, options.threads)
        batch = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
        found = measure(runners, batch, duration_s=options.duration)
        running = running_operators(files["int8"])
        print(f"\n{size} pixels: a session of the INT8 file runs {integer_layers(running)} integer layers")
        print(f"{', '.join(f'{number} {name}' for name, number in running.items())}\n")
        print("| row | p50 ms | times as fast as ONNX Runtime fp32 | 95 % interval |\n|---|---|---|---|")
        for name, latency in found.items():
            # Baseline by row: above 1, the row is faster.
            speedup = ratio(found[BASELINE], latency)
            interval = f"{speedup.low:.2f} to {speedup.high:.2f}"
            print(f"| {name} | {latency.p50:.3f} | {speedup.value:.2f} | {interval} |", flush=True)
            rows.append(
                {
                    "size": size,
                    "row": name,
                    "speedup": [speedup.value, speedup.low, speedup.high],
                    "session_operators": running if "int8" in name else None,
                    **latency.to_dict(),
                }
            )
    settings = {"images": options.images, "threads": options.threads, "duration_s": options.duration}
    content = {"rows": rows, "settings": settings, "conditions": before}
    write_json(options.output / "int8-latency.json", content)


if __name__ == "__main__":
    main()
