"""``imf-deploy predict``: answers of finished files for images."""

from __future__ import annotations

import csv
import logging
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.serving import HowToRun, Shown

Preprocessing = Annotated[
    Path | None,
    Parameter(help="JSON with the preprocessing, or a record, for an ONNX file that does not carry it."),
]


def predict(
    file: Annotated[Path, Parameter(help="An ONNX file, an engine, or weights of a stripped student.")],
    images: Annotated[tuple[Path, ...], Parameter(help="Image files, and folders of them.")],
    /,
    *,
    shown: Shown = Shown(),
    as_csv: Annotated[bool, o.flag("Print CSV: a row for each image.", "--csv")] = False,
    how: HowToRun = HowToRun(),
    preprocess: Preprocessing = None,
    logits: o.Logits = "",
    trust_model: o.TrustModel = (),
    common: o.Common = o.Common(),
) -> None:
    """Classify images by a file, and print the most probable classes of each.

    Images that cannot be read are reported and left out.

    Exits with 1 if there were any, and with 4 if this machine cannot run the
    file.
    """
    from imf_deploy.errors import ImfDeployError
    from imf_deploy.progress import say, track
    from imf_deploy.serving.classifier import open_classifier
    from imf_deploy.serving.images import find_images
    from imf_deploy.serving.predict import predict as run
    from imf_deploy.serving.render import csv_head, csv_row, line

    out = sys.stdout  # a progress bar replaces the name
    paths = find_images(images)
    classifier = open_classifier(file, replace(how, trust_model=trust_model), preprocess, logits)
    for note in classifier.notes:
        say(note)
    top = min(shown.top, classifier.preprocess.num_classes)
    table = csv.writer(out, lineterminator="\n")
    failed: list[ImfDeployError] = []
    # Lines on a terminal show the progress themselves.
    with nullcontext(lambda _: None) if out.isatty() else track("Classifying", len(paths)) as advance:
        if as_csv:
            table.writerow(csv_head(top))
        for answer in run(classifier, paths, top):
            advance(1)
            if isinstance(answer, ImfDeployError):
                failed.append(answer)
                say(answer.what, logging.WARNING)
            elif as_csv:
                table.writerow(csv_row(answer))
            else:
                out.write(line(answer) + "\n")
    if failed:
        raise ImfDeployError(
            f"{len(failed)} of {len(paths)} images have no answer", "The messages above name each of them"
        )
