"""The report for a pull request: GitHub-flavoured Markdown with all names escaped."""

import re
from collections.abc import Sequence

from imf_deploy.records.report import ArtifactRow, Report
from imf_deploy.report import metrics, verdict
from imf_deploy.report.columns import columns
from imf_deploy.report.images import Images, images_of
from imf_deploy.report.left_out import left_out_command, left_out_sentence
from imf_deploy.report.verdict import broken_sentence
from imf_deploy.show import format as show
from imf_deploy.show.markdown import code, fenced, text
from imf_deploy.tasks.classification import CLASSIFICATION

# A cell of numbers alone, which needs no escaping; units come from records.
_NUMBER = re.compile(r"–|-?[0-9.]+( %)?( \([0-9.]+–[0-9.]+\))?( \(worse by [0-9.e+-]+ of [0-9.e+-]+\))?")


def render_markdown(report: Report) -> str:
    """Return the report as Markdown: failures, the recommendation, the files, and how to repeat the run."""
    parts = [f"# {text(verdict.title(report))}"]
    failed = [row for row in report.artifacts if row.status == "fail"]
    if failed:
        lines = [f"- {code(row.path)}: {text(row.reason or 'no reason given')}" for row in failed]
        parts.append(f"**{len(failed)} of {len(report.artifacts)} files missed their gate:**")
        parts.append("\n".join(lines))
    first = [f"**{text(verdict.deploy_sentence(report))}**"]
    if left := left_out_sentence(report):
        first += [text(left), code(left_out_command(report))]
    parts.append(" ".join(first))
    sentences = (
        verdict.check_sentence(report),
        verdict.gate_sentence(report),
        verdict.unchecked_sentence(report),
        broken_sentence(report),
        verdict.teacher_sentence(report),
    )
    parts.append(" ".join(map(text, filter(None, (*sentences, verdict.refit_sentence(report))))))
    if report.artifacts:
        parts.append(_table(report))
        parts.append(
            f"{CLASSIFICATION.metric.capitalize()} is measured on the test images, with its Wilson interval. "
            "The file to deploy is chosen on the validation images: by an INT8 file's own accuracy, and for "
            f"other files by that of their product in PyTorch. Speed-up is relative to {show.PYTORCH}."
        )
    if rows := metrics.metric_rows(report):
        parts.append(_metrics(report, rows))
    if notes := _notes(report):
        parts.append("\n".join(f"- {text(note)}" for note in notes))
    if images := images_of(report):
        parts += ["## Images", text(images.sentence), _images(images)]
    if report.command:
        parts += ["## How to repeat", fenced(report.command, "sh")]
    parts.append(_conditions(report))
    return "\n\n".join(parts) + "\n"


def _table(report: Report) -> str:
    best = verdict.recommended(report)
    shown = columns("markdown")
    lines = [
        _row(["File", *(column.heading for column in shown)]),
        _row(["---", *("---" if column.words else "---:" for column in shown)]),
    ]
    lines += [_row(_cells(row, row is best)) for row in report.artifacts]
    return "\n".join(lines)


def _images(images: Images) -> str:
    lines = [_row(("Class", "Training", "Validation", "Test")), _row(["---", "---:", "---:", "---:"])]
    for row in (*images.rows, images.total):
        lines.append(_row([text(row.label), f"{row.train:,}", f"{row.validation:,}", f"{row.test:,}"]))
    if images.more:
        lines.append(f"\nThese {len(images.rows)} classes have the fewest training images.")
    return "\n".join(lines)


def _metrics(report: Report, rows: Sequence[metrics.MetricRow]) -> str:
    """Return the table of the metrics besides the accuracy."""
    titles = list(metrics.metric_titles(report).values())
    lines = [_row(["File", *map(text, titles)]), _row(["---", *["---:"] * len(titles)])]
    for row in rows:
        name = code(row.path) if row.path else text(row.name)
        lines.append(_row([name, *(cell if _NUMBER.fullmatch(cell) else text(cell) for cell in row.cells)]))
    return "\n".join(lines)


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: ArtifactRow, best: bool) -> list[str]:
    name = code(row.path)
    cells = ((column.words, column.write(row)) for column in columns("markdown"))
    return [f"**{name}**" if best else name, *(text(cell) if words else cell for words, cell in cells)]


def _notes(report: Report) -> list[str]:
    """Return why files were not run, and the remarks of the run; failures are listed above."""
    waiting = [
        f"{reason} ({len(paths)} {'file' if len(paths) == 1 else 'files'})"
        for reason, paths in verdict.exceptions(report)
        if reason.startswith("not run")
    ]
    return [
        *waiting,
        *filter(None, [metrics.calibration_sentence(report), metrics.confidence_sentence(report)]),
        *report.notes,
    ]


def _conditions(report: Report) -> str:
    """Return the conditions and the time of the latency measurements in one line."""
    environment = report.environment
    facts = [
        f"{key} {show.plain(environment[key])}" for key in ("cpu", "threads", "gpu") if environment.get(key)
    ]
    versions = environment.get("versions")
    if isinstance(versions, dict):
        facts += [f"{name} {show.plain(version)}" for name, version in versions.items()]
    seed = "" if report.seed is None else f"Seed {report.seed}, "
    made = f"{seed}made {report.created}" + (f"; {', '.join(facts)}" if facts else "") + "."
    return text(f"{made} {verdict.time_sentence(report)}".strip())
