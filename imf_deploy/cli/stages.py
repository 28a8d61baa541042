"""The stages that write deployable files, one command each: ``strip`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imf_deploy import defaults
from imf_deploy.cli import engine_options as e
from imf_deploy.cli import options as o
from imf_deploy.cli.config import Settings
from imf_deploy.settings import ExportSettings
from imf_deploy.settings.base import words


def strip(
    distilled: Annotated[Path, typer.Argument(help="What imf-deploy distill wrote.")],
    products: o.Products = defaults.EVERY_PRODUCT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default products/ beside the input.")
    ] = None,
    trust_model: o.TrustModel = None,
    overwrite: o.Overwrite = False,
    *,
    settings: Settings,
) -> None:
    """Strip a distilled student into its products, and prove each one."""
    from imf_deploy.artifact import load_artifact
    from imf_deploy.distillation.distill import load_distilled
    from imf_deploy.files import write_yaml
    from imf_deploy.method.products import choose_products
    from imf_deploy.progress import say
    from imf_deploy.records.files import DistilledFile
    from imf_deploy.stripping.stage import strip as run

    loaded = load_distilled(load_artifact(distilled, DistilledFile), trust_model or ())
    names = choose_products(words(products), len(loaded.blocks))
    folder = output or distilled.parent / "products"
    stripped = run(loaded, names, folder, overwrite=overwrite)
    write_yaml(folder / "strip.config.yaml", settings)
    for made in stripped:
        if not (proof := made.strip):
            continue
        same = "identical" if proof.logits_identical else f"within {proof.max_abs_diff:.1g}"
        say(
            f"{made.path}: logits {same}, {proof.parameters_before:,} parameters -> "
            f"{proof.parameters_after:,}, {proof.macs_before:,} MACs -> {proof.macs_after:,}"
        )


def export(
    product: Annotated[Path, typer.Argument(help="What imf-deploy strip wrote.")],
    precisions: o.Precisions = defaults.EVERY_FILE,
    trt: o.TrtOption = o.Trt.AUTO,
    compute_capability: o.Capability = "",
    batch: o.BatchRangeOption = defaults.BATCH_RANGE,
    version_compatible: e.VersionCompatible = False,
    hardware_compatible: e.HardwareCompatible = None,
    builder_level: e.BuilderLevel = None,
    workspace: e.Workspace = None,
    strip_weights: e.StripWeights = False,
    timing_cache: e.TimingCache = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; by default deploy/ beside the input's folder."),
    ] = None,
    data: o.DataNow = "",
    data_root: o.DataRoot = "",
    trust_model: o.TrustModel = None,
    max_accuracy_drop: o.MaxAccuracyDrop = defaults.MAX_ACCURACY_DROP,
    int8_cpus: o.Int8CpusOption = o.Int8Cpus.ALL,
    min_agreement: o.MinAgreement = defaults.MIN_AGREEMENT,
    overwrite: o.Overwrite = False,
    *,
    settings: Settings,
) -> None:
    """Write a product as ONNX files and TensorRT engines.

    The files carry the product's accuracy, so its data is opened and it is measured first. INT8 is
    calibrated on training images, and written where it holds its gate on validation images.
    """
    values = locals()
    from imf_deploy.calib.product import export_product
    from imf_deploy.cli.read import read
    from imf_deploy.data import reopen_data
    from imf_deploy.export.choice import choose_precisions
    from imf_deploy.export.stage import choose_engines
    from imf_deploy.files import write_yaml
    from imf_deploy.method.products import load_product
    from imf_deploy.progress import say
    from imf_deploy.settings import Gate, QuantizeSettings
    from imf_deploy.verification.stage import evaluate_product

    wanted = read(ExportSettings, values)
    chosen = choose_precisions(wanted.precisions)
    engines, remark = choose_engines(wanted, chosen)
    if remark:
        say(remark)
    loaded = load_product(product, trust_model or ())
    opened = reopen_data(loaded.artifact.data_config, data, data_root)
    folder = output or product.resolve().parent.parent / "deploy"
    config = read(QuantizeSettings, values, gate=read(Gate, values))
    files, declined = export_product(
        evaluate_product(loaded, opened),
        opened,
        chosen.written(engines is not None),
        config,
        engines,
        folder,
        overwrite,
    )
    write_yaml(folder / f"{product.stem}.config.yaml", settings)
    for made in files:
        say(f"{made.path}: {made.path.stat().st_size:,} bytes, {made.precision}")
    for reason in declined:
        say(reason)
