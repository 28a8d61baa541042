"""Networks for the GPU benchmarks: students with fresh weights, or the products of a run.

The weights of a fresh network are random, which changes no operator; its batch statistics and INT8 ranges are
computed from the embedded images, so that they are realistic. Existing files in a folder are reused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

import torch
from int8_latency import images_of
from torch import nn

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.placement import Placement
from imf_deploy.calib.quantize import PLACEMENT, int8_metadata, quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.data import Split
from imf_deploy.export.engine_form import ENGINE_FLOATS
from imf_deploy.export.onnx_writer import save_onnx, trace_onnx
from imf_deploy.files import write_bytes
from imf_deploy.method.products import build_product, load_product
from imf_deploy.models import ModelSpec, build_model, find_blocks
from imf_deploy.preprocess import Preprocess

SEEDS = "mobilenetv2:plain:28,mobilenetv2:plain:224,resnet18:plain:224,mobilenetv2:imf@1:224"
TEACHER = "resnet18"
IMAGES = 32


@dataclass(frozen=True)
class Network:
    """A network as a module and as the files that engines are built from.

    Attributes:
        name: For example ``mobilenetv2 plain, 28 px``.
        module: Module in evaluation mode.
        size: Side of its images in pixels.
        files: ONNX file of each precision.
    """

    name: str
    module: nn.Module
    size: int
    files: dict[str, Path] = field(default_factory=dict)


def from_seed(text: str, folder: Path) -> Network:
    """Return a network with fresh weights.

    Args:
        text: ``MODEL:PRODUCT:PIXELS``, such as ``mobilenetv2:plain:224``.
        folder: Folder of its files, existing or new.
    """
    model, product, pixels = text.split(":")
    size = int(pixels)
    images, preprocess = images_of(size, IMAGES)
    module = _fresh(model, product, images, preprocess)
    files = _files(folder / f"{model}-{product.replace('@', '')}-{size}", module, images, preprocess)
    return Network(f"{model} {product}, {size} px", module, size, files)


def _fresh(model: str, product: str, images: Split, preprocess: Preprocess) -> nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec.for_images(model, preprocess.num_classes, preprocess.size)
    record = spec.to_dict()
    if product != "plain":
        kept = int(product.removeprefix("imf@"))
        teacher = build_model(ModelSpec.for_images(TEACHER, preprocess.num_classes, preprocess.size))
        record["refining"] = [0] * kept
        record["teacher_features"] = [asdict(block) for block in find_blocks(teacher, preprocess.size)[:kept]]
    module = build_product(record, product)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over the batches that follow
    with torch.no_grad():
        for part in torch.split(torch.arange(IMAGES), 16):
            module.train()(preprocess.normalize(images.fetch(part)))
    return module.eval()


def _files(stem: Path, module: nn.Module, images: Split, preprocess: Preprocess) -> dict[str, Path]:
    files = {kind: stem.with_name(f"{stem.name}-{kind}.onnx") for kind in ("fp32", "fp16", "int8")}
    if all(path.is_file() for path in files.values()):
        return files
    stem.parent.mkdir(parents=True, exist_ok=True)
    traced = trace_onnx(module, preprocess.size)
    metadata = {"preprocess": json.dumps(asdict(preprocess))}
    for kind in ("fp32", "fp16"):
        save_onnx(traced, files[kind], kind, metadata)
    write_int8(files["fp32"], files["int8"], images)
    return files


def write_int8(
    fp32: Path,
    path: Path,
    images: Split,
    placement: Placement = PLACEMENT,
    floats: str = "fp16",
    left: Sequence[str] = (),
) -> None:
    """Write the INT8 form of an fp32 file for TensorRT.

    Args:
        fp32: The float file.
        path: Output file.
        images: Images that ranges are measured on.
        placement: Positions of Q/DQ.
        floats: Type that the engine computes in where it is not quantised.
        left: Names of layers that stay in float.
    """
    model = open_float_model(fp32)
    ranges = measure_ranges(model, images, "minmax")
    metadata = int8_metadata(model, {ENGINE_FLOATS: floats, "target": "tensorrt"})
    write_bytes(path, quantize(model, ranges, "tensorrt", left, metadata=metadata, placement=placement))


def from_product(path: Path) -> Network:
    """Return a stripped student; its files are those that ``imf-deploy export`` wrote from it."""
    product = load_product(path)
    record = product.artifact
    files = {}
    for kind, suffix in (("fp32", "fp32"), ("fp16", "fp16"), ("int8", "int8-trt")):
        found = sorted(path.resolve().parent.parent.glob(f"deploy/*-{record.product}-{suffix}.onnx"))
        if found:
            files[kind] = found[0]
    name = f"{record.model['name']} {record.product}, {product.image_size} px"
    return Network(name, product.module, product.image_size, files)


def networks_of(
    inputs: Sequence[Path], seeds: str, pixels: Collection[int], folder: Path
) -> list[Callable[[], Network]]:
    """Return functions that make the networks: the products of runs, product files, or fresh networks.

    A network is made on first use, so that the first one is measured early.

    Args:
        inputs: Run folders and stripped students.
        seeds: Networks for :func:`from_seed`, separated by commas, if there are no inputs.
        pixels: Image sizes; other networks are left out.
        folder: Folder of the files of fresh networks.
    """
    if not inputs:
        texts = [text.strip() for text in seeds.split(",") if int(text.rpartition(":")[2]) in pixels]
        return [cache(partial(from_seed, text, folder)) for text in texts]
    found = [sorted((one / "products").glob("*.safetensors")) if one.is_dir() else [one] for one in inputs]
    products = [path for paths in found for path in paths if load_artifact(path).preprocess.size in pixels]
    return [cache(partial(from_product, path)) for path in products]
