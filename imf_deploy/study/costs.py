"""Costs of the networks of a study: parameters, MACs, latency, and the accuracy of INT8."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.benchmark.products import measure_products, was_it_busy
from imf_deploy.calib.product import export_product
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.method.products import Product, choose_products, load_product
from imf_deploy.progress import say
from imf_deploy.records.files import DeployableFile, DistilledFile
from imf_deploy.runners.opening import open_file
from imf_deploy.settings import QuantizeSettings
from imf_deploy.settings.export import Precision
from imf_deploy.settings.run import ALL
from imf_deploy.stripping.stage import strip
from imf_deploy.study.results import Network
from imf_deploy.verification.proof import count_macs, count_parameters
from imf_deploy.verification.run import runner_logits
from imf_deploy.verification.stage import evaluate_product


@dataclass(frozen=True)
class _Exported:
    """A product of a student and its ONNX files by precision."""

    student: str
    product: Product
    files: dict[str, DeployableFile]


def measure_networks(
    weights: Mapping[str, Path], data: DataSet, folder: Path, seconds: float
) -> list[Network]:
    """Export one training of each student, and measure all files side by side.

    Args:
        weights: By student, the file that a training wrote: a distilled student, whose products are all
            measured, or a single product.
        data: Data that INT8 is calibrated and evaluated on.
        folder: Folder for products and ONNX files.
        seconds: Minimum measuring time of each file; 0 measures no latency and makes no INT8.
    """
    exported = [
        _export(student, product, data, folder, int8=seconds > 0)
        for student, path in weights.items()
        for product in _products(path, student, data, folder)
    ]
    latencies = {}
    if seconds > 0:
        products = [each.product for each in exported]
        files = [file for each in exported for file in each.files.values()]
        latencies = measure_products(products, files, seconds)
        for sentence in was_it_busy(latencies):
            say(sentence)
    networks = []
    for each in exported:
        timed = {
            name: latencies[f.sha256].file.p50 for name, f in each.files.items() if f.sha256 in latencies
        }
        quantised = each.files.get("int8")
        networks.append(
            Network(
                each.student,
                each.product.artifact.product,
                count_parameters(each.product.module),
                count_macs(each.product.module, data.preprocess.shape),
                timed,
                _accuracy(quantised, data) if quantised else None,
            )
        )
    return networks


def _products(path: Path, student: str, data: DataSet, folder: Path) -> Iterable[Product]:
    artifact, trusted = load_artifact(path), (student,)
    if not isinstance(artifact, DistilledFile):
        yield evaluate_product(load_product(path, trusted), data)
        return
    distilled = load_distilled(artifact, trusted)
    names = choose_products((ALL,), distilled.graph.imf.members)
    for made in strip(distilled, names, folder / "products" / distilled.spec.stem, overwrite=True):
        yield evaluate_product(load_product(made.path, trusted), data)


def _export(student: str, product: Product, data: DataSet, folder: Path, int8: bool) -> _Exported:
    precisions: list[Precision] = ["fp32", "int8"] if int8 else ["fp32"]
    config = QuantizeSettings(rank=False, keep_int8=True)
    place = folder / "deploy" / product.artifact.path.stem
    files, declined = export_product(product, data, precisions, config, None, place, overwrite=True)
    for reason in declined:
        say(reason)
    return _Exported(student, product, {file.precision: file for file in files})


def _accuracy(file: DeployableFile, data: DataSet) -> float:
    with open_file(file.path, file.format, exact_sums=True) as runner:
        logits = runner_logits(runner, data.test, data.preprocess)
    return float(data.preprocess.task.right(logits, data.test.labels.numpy()).mean())
