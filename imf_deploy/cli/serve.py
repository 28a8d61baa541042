"""``imf-deploy predict``, ``evaluate`` and ``compare-files``: answers of finished files for images."""

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
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.run import LatencySettings
from imf_deploy.settings.serving import HowToRun, JudgedSettings, ReplacementGate, Shown

_NAMED = 100
"""Maximum number of images without an answer that are named."""
Preprocessing = Annotated[
    Path | None,
    Parameter(help="JSON with the preprocessing, or a record, for an ONNX file that does not carry it."),
]


def predict(
    file: Annotated[Path, Parameter(help="An ONNX file, an engine, or weights of a stripped student.")],
    images: Annotated[tuple[str, ...], Parameter(help="Image files, and folders of them.")],
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
    failed = 0
    # Lines on a terminal show the progress themselves.
    with nullcontext(lambda _: None) if out.isatty() else track("Classifying", len(paths)) as advance:
        if as_csv:
            table.writerow(csv_head(top))
        for answer in run(classifier, paths, top):
            advance(1)
            if isinstance(answer, ImfDeployError):
                failed += 1
                if failed <= _NAMED:
                    say(answer.what, logging.WARNING)
            elif as_csv:
                table.writerow(csv_row(answer))
            else:
                out.write(line(answer) + "\n")
    if failed:
        which = "each of them" if failed <= _NAMED else f"the first {_NAMED} of them"
        raise ImfDeployError(
            f"{failed} of {len(paths)} images have no answer", f"The messages above name {which}"
        )


def evaluate(
    file: Annotated[Path, Parameter(help="An ONNX file, an engine, or weights of a stripped student.")],
    /,
    *,
    place: PlaceSettings = PlaceSettings(),
    judged: JudgedSettings = JudgedSettings(),
    metric: Annotated[
        tuple[str, ...],
        Parameter(
            help="Metrics of your own: package.module:function of logits and labels.", show_default=False
        ),
    ] = (),
    how: HowToRun = HowToRun(),
    preprocess: Preprocessing = None,
    logits: o.Logits = "",
    trust_model: o.TrustModel = (),
    output: Annotated[Path | None, o.to("JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Measure a file on labelled images. The network that it was made from is not needed.

    Classes are matched by their names. The images are the test images of the
    data, or all of data that has no test split.

    Exits with 4 if this machine cannot run the file.
    """
    from rich.console import Console

    from imf_deploy.files import write_json
    from imf_deploy.forms import to_json
    from imf_deploy.progress import say
    from imf_deploy.serving.classifier import open_classifier
    from imf_deploy.serving.evaluate import evaluate as run
    from imf_deploy.serving.labelled import open_judged
    from imf_deploy.serving.tables import render_evaluation

    o.check_free("--output", output, overwrite)
    classifier = open_classifier(file, replace(how, trust_model=trust_model), preprocess, logits)
    images = open_judged(classifier, place, judged.split)
    for note in (*classifier.notes, *images.notes):
        say(note)
    result = run(classifier, images, metric)
    Console(highlight=False).print(render_evaluation(result))
    if output:
        write_json(output, to_json(result))


def compare_files(
    candidate: Annotated[Path, Parameter(help="The new file.")],
    current: Annotated[Path, Parameter(help="The file in production.")],
    /,
    *,
    place: PlaceSettings = PlaceSettings(),
    judged: JudgedSettings = JudgedSettings(),
    gate: ReplacementGate = ReplacementGate(),
    latency: LatencySettings = LatencySettings(),
    how: HowToRun = HowToRun(),
    preprocess: Preprocessing = None,
    current_preprocess: Annotated[Path | None, Parameter(help="The same for the current file.")] = None,
    logits: o.Logits = "",
    trust_model: o.TrustModel = (),
    output: Annotated[Path | None, o.to("JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Compare a new file with the one in production, on the same labelled images.

    Shows the metrics of both, the images whose class changes, by class,
    McNemar's test, and latencies in alternating rounds. Each file prepares
    the images in its own way.

    Exits with 3 if the candidate misses the gate, and with 4 if this machine
    cannot run a file.
    """
    from rich.console import Console

    from imf_deploy.errors import GateError
    from imf_deploy.files import write_json
    from imf_deploy.forms import to_json
    from imf_deploy.progress import say
    from imf_deploy.serving.classifier import open_classifier
    from imf_deploy.serving.compare import compare_files as run
    from imf_deploy.serving.labelled import open_judged
    from imf_deploy.serving.tables import render_comparison

    o.check_free("--output", output, overwrite)
    how = replace(how, trust_model=trust_model)
    new, old = (
        open_classifier(path, how, own, logits)
        for path, own in ((candidate, preprocess), (current, current_preprocess))
    )
    named = old if place.data or old.record.data_config else new
    images = open_judged(named, place, judged.split)
    for note in (*new.notes, *old.notes, *images.notes):
        say(note)
    result = run(new, old, images, gate, latency.bench_seconds)
    Console(highlight=False).print(render_comparison(result))
    if output:
        write_json(output, to_json(result))
    if result.reason:
        raise GateError(f"{candidate} missed its gate: {result.reason}", f"Keep {current}, or widen the gate")
