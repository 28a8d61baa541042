"""The report as one self-contained HTML page, and its files."""

from pathlib import Path
from typing import Any

from imf_deploy.files import write_text
from imf_deploy.records.report import Report
from imf_deploy.report import metrics, plots, verdict
from imf_deploy.report.changes import changed_images
from imf_deploy.report.columns import columns
from imf_deploy.report.confusion import confusion_change, confusion_matrix
from imf_deploy.report.images import images_of
from imf_deploy.report.left_out import left_out_command, left_out_sentence
from imf_deploy.report.markdown import render_markdown
from imf_deploy.report.verdict import broken_sentence, ladder_rows
from imf_deploy.show import format as show
from imf_deploy.show.pages import render_template


def render_html(report: Report) -> str:
    """Return the report as a self-contained HTML page: no scripts, no fonts, no network access."""
    report = report.finite()
    engines = [row for row in report.artifacts if row.format != "onnx"]
    return render_template(
        "report.html.j2",
        report=report,
        title=verdict.title(report),
        best=verdict.recommended(report),
        deploy=verdict.deploy_sentence(report),
        lost=verdict.lost_sentences(report),
        unchecked=verdict.unchecked(report),
        columns=columns("page"),
        left_out=left_out_sentence(report),
        left_out_command=left_out_command(report),
        checks=verdict.check_sentence(report),
        taught=verdict.teacher_sentence(report),
        took=verdict.time_sentence(report),
        refitted=verdict.refit_sentence(report),
        exceptions=verdict.exceptions(report),
        changed=changed_images(report.artifacts),
        images=images_of(report),
        pixels=report.pictures,
        ladder=broken_sentence(report),
        rungs=ladder_rows(report),
        gate=verdict.gate_sentence(report),
        confidence=metrics.confidence_sentence(report),
        calibrated=metrics.calibration_sentence(report),
        metric_titles=metrics.metric_titles(report),
        metric_rows=metrics.metric_rows(report),
        confused=_confused(report),
        measured=[row for row in report.artifacts if row.agreement is not None],
        engines=engines,
        start=verdict.common_start([row.path for row in report.artifacts]),
        conditions=_conditions(report),
        pictures=_pictures(report),
        quantised=_quantised(report),
        tuned=tuned_epochs(report),
    )


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.json``, ``report.html`` and ``report.md`` into a folder, each whole or not at all.

    Numbers that are not finite become null, because JSON cannot represent them.

    Raises:
        ImfDeployError: a file cannot be written.
    """
    # The numbers come first: pages can be regenerated from them.
    report.save(folder / "report.json")
    write_text(folder / "report.html", render_html(report))
    write_text(folder / "report.md", render_markdown(report.finite()))


def tuned_epochs(report: Report) -> int:
    """Return how many epochs at the end of the history were quantisation-aware training."""
    epochs = report.config.get("qat_epochs")
    return epochs if isinstance(epochs, int) and 0 < epochs < len(report.history) else 0


def _pictures(report: Report) -> dict[str, Any]:
    """Return the figures by name; the SVG text escapes its own labels."""
    from markupsafe import Markup

    best = verdict.recommended(report)
    taught = report.teacher_history
    tuned = tuned_epochs(report)
    pictures = {
        "latency": plots.accuracy_against_latency(report.artifacts, best.path if best else None),
        "losses": plots.loss_curves(report.history, tuned=tuned),
        "validation": plots.validation_curve(report.history, tuned=tuned),
        "teacher_losses": plots.loss_curves(taught, "teacher-losses"),
        "teacher_validation": plots.validation_curve(taught, "teacher-validation"),
        "parameters": plots.strip_bars(report.strip, "parameters", "parameters"),
        "macs": plots.strip_bars(report.strip, "macs", "multiply-accumulates of one inference"),
    }
    # Drawn by matplotlib, which escapes the text of its SVG.
    return {name: Markup(svg) if svg else None for name, svg in pictures.items()}  # noqa: S704


def _confused(report: Report) -> dict[str, Any] | None:
    """Return the row whose confusion matrix is shown, its pictures and its largest cells."""
    from markupsafe import Markup

    row = metrics.shown_row(report, verdict.recommended(report))
    if row is None:
        return None
    pictures = {"matrix": confusion_matrix(row.classes), "change": confusion_change(row.classes)}
    # Escaped as above.
    drawn = {name: Markup(svg) if svg else None for name, svg in pictures.items()}  # noqa: S704
    return {"row": row, "cells": metrics.confusions(row.classes), **drawn}


def _quantised(report: Report) -> list[dict[str, Any]]:
    """Return each INT8 file's row with the chart of its layers."""
    from markupsafe import Markup

    made = [(row, row.calibration) for row in report.artifacts if row.calibration]
    pictures = [plots.sensitivity_bars(how, f"sensitivity-{index}") for index, (_, how) in enumerate(made)]
    # Escaped as above.
    return [
        {"row": row, "picture": Markup(svg) if svg else None}  # noqa: S704
        for (row, _), svg in zip(made, pictures, strict=True)
    ]


def _conditions(report: Report) -> str:
    """Return the batch sizes and numbers of threads that latencies were measured with."""
    measured = [row for row in report.artifacts if row.latency_ms]
    batches = sorted({row.batch for row in measured if row.batch})
    threads = sorted({row.threads for row in measured if row.threads})
    return f"batch {show.plain(batches)}, threads {show.plain(threads)}" if batches and threads else ""
