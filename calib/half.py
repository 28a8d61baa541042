"""Choose the nodes of an fp16 file that stay in fp32: by their numbers on images, and by its gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from onnx import ModelProto

from imf_deploy.calib.layers import LAYER_TYPES
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.ranges import CacheKey, cached_ranges, measure_ranges, method_key
from imf_deploy.calib.repair import repair
from imf_deploy.calib.score import content_logits, file_logits, score
from imf_deploy.data import DataSet, Split
from imf_deploy.data.choice import choose_images, hash_images
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.half import to_half
from imf_deploy.export.half_arithmetic import emulate_half
from imf_deploy.export.half_fit import find_kept
from imf_deploy.export.onnx_writer import save_onnx
from imf_deploy.export.stage import Fitted
from imf_deploy.files import fingerprint
from imf_deploy.method.products import Product
from imf_deploy.progress import track
from imf_deploy.records.files import DeployableFile, OnnxFile
from imf_deploy.records.half import HalfFit, KeptNode
from imf_deploy.records.making import Score
from imf_deploy.settings import QuantizeSettings
from imf_deploy.verification.ladder import Array
from imf_deploy.verification.metrics import Metrics


@dataclass(frozen=True)
class HalfOnImages:
    """The fit of a product's fp16 file to the images of its data.

    Attributes:
        data: Its training split gives the ranges, its validation split the gate.
        config: Number and seed of the images, and the gate.
        folder: Folder of the files, whose ``calib`` folder stores ranges.
        fp32: The product's fp32 ONNX file, whose ranges INT8 uses too; ``None`` if it is not written.
    """

    data: DataSet
    config: QuantizeSettings
    folder: Path
    fp32: Path | None = None

    @property
    def key(self) -> str:
        """Hash of everything that decides the fit besides the model."""
        names = ("images", "seed", "gate", "sensitivity_images", "max_float_layers")
        return fingerprint([self.data.fingerprint, *(repr(getattr(self.config, name)) for name in names)])

    def fit(self, product: Product, trace: Callable[[], ModelProto]) -> Fitted:
        """Return the fit of a product; see :func:`fit_half`."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".tmp-") as folder:
            fp32 = self.fp32
            if fp32 is None:
                fp32 = Path(folder) / f"{product.artifact.path.stem}-fp32.onnx"
                save_onnx(trace(), fp32, "fp32", product.artifact.preprocess.metadata())
            model = open_float_model(fp32, product.artifact.preprocess)
            return fit_half(model, self.data, self.config, self.folder)


def fit_half(model: FloatModel, data: DataSet, config: QuantizeSettings, folder: Path) -> Fitted:
    """Return which nodes of an fp16 file stay in fp32, and the graph that names them.

    First these are the nodes whose weights or activations do not fit, and those that save Casts between them.
    If the file misses its gate on the validation images, the layers that fp16 harms most are added. Files are
    judged with every fp16 value rounded as on a GPU, because ONNX Runtime's CPU provider does not round.

    Args:
        model: The fp32 model.
        data: Images to measure and judge on.
        config: Number and seed of the images, and the gate.
        folder: Folder of the file, whose ``calib`` folder stores ranges.

    Raises:
        GateError: fp16 misses its gate with half of its layers in fp32.
        ImfDeployError: the model does not run, or its own answers are not finite.
    """
    images = choose_images(data.train, min(config.images, len(data.train)), config.seed)
    images_hash = hash_images(images)
    key = CacheKey(model.identity, images_hash, fingerprint(asdict(model.preprocess)), method_key("minmax"))
    ranges = cached_ranges(key.path(folder / "calib"), key, lambda: measure_ranges(model, images, "minmax"))
    kept = find_kept(model.proto, ranges)
    fit = HalfFit(kept=kept, casts=0, images=len(images), images_sha256=images_hash)
    if len(data.validation):
        fit = _passing(model, data, config, fit)
    return Fitted(fit, model.proto if fit.kept else None)


def describe_halves(files: Sequence[DeployableFile]) -> list[str]:
    """Return a sentence for each fp16 file with nodes in fp32: how many, and why the first one is."""
    return [
        f"{len(half.kept)} node(s) of {file.path.name} stay in fp32, such as {half.kept[0].node} "
        f"({half.kept[0].op_type}): {half.kept[0].reason}"
        for file in files
        if isinstance(file, OnnxFile) and (half := file.half) and half.kept
    ]


def _passing(model: FloatModel, data: DataSet, config: QuantizeSettings, fit: HalfFit) -> HalfFit:
    """Return a fit whose file passes its gate on the validation images."""
    reference = file_logits(model.artifact.path, model, data.validation)
    if not np.isfinite(reference).all():
        raise ImfDeployError(
            f"some logits of {model.artifact.path} are not finite on the validation images",
            "Check the model in float first",
        )
    labels, metrics = data.validation.labels.numpy(), Metrics.of(config.gate, data.preprocess)
    names = {node.node for node in fit.kept}
    layers = [
        node for node in model.proto.graph.node if node.op_type in LAYER_TYPES and node.name not in names
    ]

    @cache
    def ranking() -> list[str]:
        few = choose_images(
            data.validation, min(config.sensitivity_images, len(data.validation)), config.seed
        )
        expected = file_logits(model.artifact.path, model, few)
        harms: list[tuple[float, str]] = []
        with track("Ranking layers by fp16", len(layers)) as advance:
            for layer in layers:
                others = {node.name for node in model.proto.graph.node} - {layer.name}
                alone = score(_logits(model, others, few), expected, few.labels.numpy(), data.preprocess.task)
                harm = alone.divergence if np.isfinite(alone.divergence) else np.inf
                harms.append((-harm, layer.name))
                advance(1)
        return [name for _, name in sorted(harms, key=lambda pair: pair[0])]

    def attempt(excluded: tuple[str, ...]) -> tuple[bytes, Score]:
        logits = _logits(model, names | set(excluded), data.validation)
        return b"", score(logits, reference, labels, data.preprocess.task, metrics)

    repaired = repair(
        attempt,
        ranking,
        len(layers),
        config.gate,
        int(len(layers) * config.max_float_layers),
        model.artifact.path.name,
        "fp16",
    )
    harmful = [
        KeptNode(node.name, node.op_type, "fp16 loses too many answers")
        for node in layers
        if node.name in repaired.excluded
    ]
    return replace(fit, kept=[*fit.kept, *harmful], validation=repaired.score, tries=repaired.tries)


def _logits(model: FloatModel, kept: Collection[str], images: Split) -> Array:
    """Return the logits of a model's fp16 form, as a GPU rounds them."""
    half = emulate_half(to_half(_copy(model.proto), kept))
    return content_logits(half.SerializeToString(), model, images)


def _copy(proto: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(proto)
    return copied
