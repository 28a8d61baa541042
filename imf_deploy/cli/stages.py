"""``imf-deploy strip``, ``export``, ``calibrate`` and ``refit-engine``: from weights to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.files import write_yaml
from imf_deploy.progress import say
from imf_deploy.settings import ExportSettings, GraphSettings, InterfaceSettings, QuantizeSettings
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.quantize import HalfSettings, Int8Settings
from imf_deploy.settings.run import ProductSettings


def strip(
    distilled: Annotated[Path, Parameter(help="What imf-deploy distill wrote.")],
    /,
    *,
    wanted: ProductSettings = ProductSettings(),
    place: PlaceSettings = PlaceSettings(),
    output: Annotated[Path | None, o.to("Folder to write to; by default products/ beside the input.")] = None,
    trust_model: o.TrustModel = (),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Strip a distilled student into its products, and prove each one.

    Data is only opened for --calibrate-confidence.
    """
    from imf_deploy.artifact import load_artifact
    from imf_deploy.data import reopen_data
    from imf_deploy.distillation.distill import load_distilled
    from imf_deploy.method.products import choose_products
    from imf_deploy.records.files import DistilledFile
    from imf_deploy.report.metrics import confidence_words
    from imf_deploy.stripping.stage import strip as run

    loaded = load_distilled(load_artifact(distilled, DistilledFile), trust_model)
    names = choose_products(wanted.products, loaded.graph.imf.members)
    folder = output or distilled.parent / "products"
    known = loaded.artifact.data_config
    opened = (
        reopen_data(known, place.data, place.data_root, place.labels) if wanted.calibrate_confidence else None
    )
    stripped = run(loaded, names, folder, overwrite=overwrite, calibration=opened)
    write_yaml(folder / "strip.config.yaml", common.settings)
    for made in stripped:
        if not (proof := made.strip):
            continue
        same = "identical" if proof.logits_identical else f"within {proof.max_abs_diff:.1g}"
        say(
            f"{made.path}: logits {same}, {proof.parameters_before:,} parameters -> "
            f"{proof.parameters_after:,}, {proof.macs_before:,} MACs -> {proof.macs_after:,}"
        )
        if made.confidence:
            say(f"{made.path}: {confidence_words(made.confidence)}")


def export(
    product: Annotated[Path, Parameter(help="What imf-deploy strip wrote.")],
    /,
    *,
    wanted: ExportSettings = ExportSettings(),
    interface: InterfaceSettings = InterfaceSettings(),
    int8: Int8Settings = Int8Settings(),
    place: PlaceSettings = PlaceSettings(),
    output: Annotated[
        Path | None, o.to("Folder to write to; by default deploy/ beside the input's folder.")
    ] = None,
    trust_model: o.TrustModel = (),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Write a product as ONNX files and TensorRT engines.

    The product's accuracy is measured first, because the files record it. INT8
    is calibrated on training images, and written if it passes its gate on
    validation images.

    With --input or --head, each ONNX file is also written in that form, beside
    the one that every product has.
    """
    from imf_deploy.calib.half import describe_halves
    from imf_deploy.calib.product import export_product
    from imf_deploy.data import reopen_data
    from imf_deploy.export.choice import choose_precisions
    from imf_deploy.export.interface import check_interface
    from imf_deploy.export.interface_file import write_interface
    from imf_deploy.export.stage import choose_engines
    from imf_deploy.method.products import load_product
    from imf_deploy.records.files import OnnxFile
    from imf_deploy.verification.metrics import check_gate
    from imf_deploy.verification.stage import evaluate_product

    chosen = choose_precisions(wanted.precisions)
    engines, remark = choose_engines(wanted, chosen)
    if remark:
        say(remark)
    loaded = load_product(product, trust_model)
    check_interface(interface, loaded.artifact.preprocess)
    opened = reopen_data(loaded.artifact.data_config, place.data, place.data_root, place.labels)
    check_gate(int8.gate, opened, ["test", "validation"] if chosen.int8 else ["test"])
    folder = output or product.resolve().parent.parent / "deploy"
    config = QuantizeSettings(**vars(int8))
    files, declined = export_product(
        evaluate_product(loaded, opened),
        opened,
        chosen.written(engines is not None),
        config,
        engines,
        folder,
        overwrite,
        GraphSettings(wanted.opset),
    )
    if interface.suffix:
        plain = [file for file in files if isinstance(file, OnnxFile)]
        files += [write_interface(file, interface, overwrite=overwrite) for file in plain]
    write_yaml(folder / f"{product.stem}.config.yaml", common.settings)
    for made in files:
        say(f"{made.path}: {made.path.stat().st_size:,} bytes, {made.precision}")
    for reason in [*describe_halves(files), *declined]:
        say(reason)


def refit_engine(
    engine: Annotated[Path, Parameter(help="An engine built with --strip-weights.")],
    weights: Annotated[
        Path, Parameter(help="An ONNX file or stripped weights of the same student and product.")
    ],
    /,
    *,
    output: Annotated[Path, o.to("Engine to write.")],
    trust_model: o.TrustModel = (),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Write an engine with the weights of another student of the same architecture, in seconds.

    The engine keeps its tactics. Its outputs are compared with those of the
    weights on random images first.

    Exits with 3 if the outputs differ, and with 4 if this machine cannot run
    the engine.
    """
    from imf_deploy.pipeline.refit import refit_engine as run

    made = run(engine, weights, output, trust_model, overwrite)
    if proof := made.refit:
        largest = max(check.max_abs_diff or 0.0 for check in proof.checks)
        say(
            f"{made.path}: {made.path.stat().st_size:,} bytes, {made.precision}, {proof.seconds:.1f} s, "
            f"logits within {largest:.1g}"
        )


def calibrate(
    model: Annotated[Path, Parameter(help="A float32 ONNX classifier.")],
    /,
    *,
    config: QuantizeSettings = QuantizeSettings(),
    place: PlaceSettings = PlaceSettings(),
    preprocess: Annotated[
        Path | None, Parameter(help="JSON with the preprocessing, for a model that does not carry it.")
    ] = None,
    logits: o.Logits = "",
    cache: Annotated[
        Path | None, Parameter(help="File to cache the ranges in; by default in OUTPUT/calib.")
    ] = None,
    output: Annotated[Path | None, o.to("Folder to write to; by default the model's own.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Quantise a model to INT8 within an accuracy gate, keeping sensitive layers in float where needed.

    Exits with 3 if INT8 misses the gate nevertheless, or is not faster on this
    machine.
    """
    from imf_deploy.calib.model import open_float_model
    from imf_deploy.calib.stage import calibrate as run
    from imf_deploy.cli.model_data import model_data
    from imf_deploy.show.format import metric_value

    opened = model_data(open_float_model(model, preprocess, logits).artifact, place)
    made = run(model, opened, config, output or model.parent, preprocess, cache, overwrite, logits)
    write_yaml(made.path.with_suffix(".config.yaml"), common.settings)
    if not (about := made.calibration):
        return
    result = about.validation
    say(
        f"{made.path}: {result.accuracy:.2%} of {result.images} validation images, "
        f"float {result.float_accuracy:.2%}, agreement {result.agreement:.2%}, "
        f"{len(about.float_layers)} of {about.layers} layers in float"
    )
    if speed := about.speed:
        say(
            f"{made.path}: {speed.ratio:.2f} times the latency of {speed.other} on this machine "
            f"({speed.machine()}; 95 % interval {speed.low:.2f} to {speed.high:.2f})"
        )
    for name, _ in config.gate.gate:
        metric = result.metrics[name]
        own, float_value = metric_value(metric), metric_value(metric, reference=True)
        say(f"{made.path}: {metric.title} {own}, float {float_value}")
    worst = ", ".join(f"{harm.layer} ({harm.divergence:.2g})" for harm in about.sensitivity[:3])
    say(f"Most sensitive layers (divergence caused by each one alone): {worst}")


def to_fp16(
    model: Annotated[Path, Parameter(help="A float32 ONNX classifier.")],
    /,
    *,
    config: HalfSettings = HalfSettings(),
    place: PlaceSettings = PlaceSettings(),
    preprocess: Annotated[
        Path | None, Parameter(help="JSON with the preprocessing, for a model that does not carry it.")
    ] = None,
    logits: o.Logits = "",
    output: Annotated[Path | None, o.to("Folder to write to; by default the model's own.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Convert a model to fp16 within an accuracy gate, keeping nodes in fp32 where needed.

    These are the nodes whose numbers do not fit into fp16, by their weights and
    by their activations on images, and layers that would miss the gate.

    Exits with 3 if fp16 misses the gate nevertheless.
    """
    from imf_deploy.calib.half import describe_halves
    from imf_deploy.calib.half_file import to_fp16 as run
    from imf_deploy.calib.model import open_float_model
    from imf_deploy.cli.model_data import model_data

    opened = model_data(open_float_model(model, preprocess, logits).artifact, place)
    made = run(model, opened, config, output or model.parent, preprocess, overwrite, logits)
    write_yaml(made.path.with_suffix(".config.yaml"), common.settings)
    if (half := made.half) and (result := half.validation):
        say(
            f"{made.path}: {result.accuracy:.2%} of {result.images} validation images, "
            f"fp32 {result.float_accuracy:.2%}, agreement {result.agreement:.2%}, "
            f"{len(half.kept)} nodes in fp32, {half.casts} Casts"
        )
    for reason in describe_halves([made]):
        say(reason)
