"""``imf-deploy verify``: compares a deployable file with the PyTorch model that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.gate import GivenGate


def verify(
    file: Annotated[Path, Parameter(help="An ONNX file or an engine that imf-deploy export wrote.")],
    /,
    *,
    against: Annotated[Path, Parameter(help="Weights of the product that the file was made from.")],
    place: PlaceSettings = PlaceSettings(),
    limits: GivenGate = GivenGate(),
    trust_model: o.TrustModel = (),
    output: Annotated[Path | None, o.to("JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Run a file on the whole test split and compare it with its PyTorch model.

    Checks the file's hash and record, the rungs of the parity ladder that lead
    to it, and its gate. Shows the changes in each class, and the images on
    which the file differs most from PyTorch.

    Exits with 3 if the file misses its gate, and with 4 if this machine cannot
    run it.
    """
    from rich.console import Console

    from imf_deploy.artifact import load_artifact
    from imf_deploy.data import reopen_data
    from imf_deploy.errors import DeviceError, GateError, UsageError
    from imf_deploy.files import write_json
    from imf_deploy.forms import to_json
    from imf_deploy.method.products import load_product
    from imf_deploy.progress import say
    from imf_deploy.records.files import DeployableFile, ProductFile, verified
    from imf_deploy.report.verified import render_verification
    from imf_deploy.settings import Gate
    from imf_deploy.verification.origin import with_origins
    from imf_deploy.verification.stage import check_files, check_parent
    from imf_deploy.verification.stage import verify as run

    o.check_free("--output", output, overwrite)
    artifact = load_artifact(file)
    if not isinstance(artifact, DeployableFile):
        raise UsageError(
            f"{file} is {artifact.title()}, and verify takes ONNX files and engines",
            "imf-deploy strip proves stripped weights, and imf-deploy inspect shows the proof",
        )
    check_parent(
        load_artifact(against, ProductFile), artifact
    )  # before networks are built and data is opened
    product = load_product(against, trust_model)
    # Before the data is opened: that may take minutes.
    gate = limits.over(artifact.gate or Gate(), str(file))
    files = with_origins(artifact)
    check_files(product, files)
    opened = reopen_data(product.artifact.data_config, place.data, place.data_root, place.labels)
    if product.artifact.evaluated_on not in ("", opened.fingerprint):
        say(
            f"{opened.name} differs from the data that {against} was evaluated on: in its images, splits, "
            "how they are prepared, or its name"
        )
    (*_, last) = run(product, files, opened, gate, search=True)
    result = verified(last)
    if result.status == "not-run":
        raise DeviceError(f"{file} was not run: {result.reason}", "Verify it on a machine with an NVIDIA GPU")
    if result.doubt:
        say(f"Warning: {against} in PyTorch: {result.doubt}. Check the data, and how it was trained")
    Console().print(render_verification(file.name, result))
    if output:
        write_json(output, {"file": str(file), "sha256": artifact.sha256, **to_json(result)})
    if result.status == "fail":
        raise GateError(f"{file} missed its gate: {result.reason}", "Export it again, or do not ship it")
