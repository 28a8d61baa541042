"""Sentences of the report, the same on the terminal and on the pages."""

from collections.abc import Sequence
from os.path import commonprefix

from imf_deploy.records.checks import Rung
from imf_deploy.records.report import ArtifactRow, Report
from imf_deploy.show.format import difference, duration, percent, significant
from imf_deploy.verification.ladder import NOT_STRIPPED

LONGEST_STAGES = 4
"""Most stages that a sentence names; ``report.json`` has all."""


def recommended(report: Report) -> ArtifactRow | None:
    """Return the row of the recommended file, if there is one."""
    choice = report.recommendation
    return next((row for row in report.artifacts if choice and row.path == choice.path), None)


def common_start(paths: Sequence[str]) -> str:
    """Return the common prefix of all paths, up to a ``/`` or ``-``, which tables do not repeat."""
    start = commonprefix(paths) if len(paths) > 1 else ""  # noqa: RUF071 (characters are what is meant)
    return start[: max(start.rfind("/"), start.rfind("-")) + 1]


def is_trial(report: Report) -> bool:
    """Return whether a run was made with ``--quick``, so that its accuracies are not a result."""
    return report.config.get("quick") is True


def deploy_sentence(report: Report) -> str:
    """Return one sentence: what to deploy and why."""
    if is_trial(report):
        return (
            "Deploy nothing from this run: it is a trial (--quick), and its accuracies are not a result. "
            "For a result, run the same command without --quick."
        )
    choice = report.recommendation
    if choice:
        return f"Deploy {choice.path}: {choice.reason.rstrip('. ')}."
    if not report.artifacts:
        return "Deploy nothing from this run: it made no files."
    if fastest := report.over_budget:
        return (
            f"No file is within {report.latency_budget_ms:g} ms: the fastest, {fastest.path}, takes "
            f"{significant(fastest.p50)} ms. imf-deploy plan finds lighter students before a training."
        )
    if any(row.status == "pass" for row in report.artifacts):
        return "No file is recommended, although some passed: see the table."
    return "Deploy nothing from this run: no file passed its checks."


def gate_sentence(report: Report) -> str:
    """Return one sentence: the gate of the recommended file; empty without one."""
    choice = report.recommendation
    return f"It passed its gate on the test images: {choice.gate}." if choice and choice.gate else ""


def unchecked(report: Report) -> list[str]:
    """Return what the run could not check: files that did not run or were not timed, other machines."""
    rows = report.artifacts
    waiting: dict[str, int] = {}
    for row in rows:
        if row.status == "not-run":
            reason = (row.reason or "no reason given").rstrip(". ")
            waiting[reason] = waiting.get(reason, 0) + 1
    found = [f"{_files(count)} ({reason})" for reason, count in waiting.items()]
    passed = [row for row in rows if row.status == "pass"]
    if untimed := [row for row in passed if row.latency_ms is None]:
        found.append(f"the latency of {_files(len(untimed))}")
    if passed and all(row.validation_accuracy is None for row in passed):
        found.append("accuracy on validation images, by which a file is recommended")
    timed = [row for row in rows if row.latency_ms]
    if timed:
        cpu = report.environment.get("cpu")
        threads = f"{timed[0].threads} thread{'' if timed[0].threads == 1 else 's'}"
        here = ", ".join(filter(None, [str(cpu or ""), threads if timed[0].threads else ""]))
        found.append(f"latency on other machines than this one{f' ({here})' if here else ''}")
    return found


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def unchecked_sentence(report: Report) -> str:
    """Return one sentence: what the run could not check; empty if it made no files."""
    found = unchecked(report)
    return f"Not checked: {'; '.join(found)}." if found else ""


def lost_sentences(report: Report) -> list[str]:
    """Return what the recommended file loses: against its network, and against the best file."""
    row = recommended(report)
    if row is None:
        return []
    lost = []
    if row.agreement is not None:
        lost.append(
            f"against its network in PyTorch; {percent(row.agreement, 2)} of the images keep their class"
        )
    known = [each.validation_accuracy for each in report.artifacts if each.status == "pass"]
    best = max((value for value in known if value is not None), default=None)
    if best is not None and row.validation_accuracy is not None:
        behind = max(100 * (best - row.validation_accuracy), 0.0)
        lost.append(f"{behind:.2f} points below the best file on validation images")
    return lost


def check_sentence(report: Report) -> str:
    """Return one sentence: how many files passed, failed and were not run, and the strip proof."""
    states = [row.status for row in report.artifacts]
    parts = [
        f"{states.count(state)} {words}"
        for state, words in (("pass", "passed"), ("fail", "failed"), ("not-run", "could not be run here"))
        if state in states
    ]
    files = f"{len(states)} files: {', '.join(parts)}" if states else "No files were made"
    if not report.strip:
        return f"{files}; nothing was stripped."
    proved = sum(proof.passed for proof in report.strip)
    return f"{files}; the strip proof holds for {proved} of {len(report.strip)} products."


def title(report: Report) -> str:
    """Return the title of the report."""
    return f"{report.student}{f' from {report.teacher}' if report.teacher else ''}: deployment report"


def teacher_sentence(report: Report) -> str:
    """Return one sentence: student, teacher, data and seed."""
    if not report.teacher:
        return f"The network {report.student} was not distilled here."
    return (
        f"Student {report.student}, teacher {report.teacher} "
        f"({percent(report.teacher_accuracy)} on the test images), data {report.dataset}, "
        f"seed {report.seed}."
    )


def refit_sentence(report: Report) -> str:
    """Return one sentence: how re-fitting heads changed validation accuracy; empty if none was re-fitted."""
    parts = [
        f"{each.head} {percent(each.before, 2)} to {percent(each.after, 2)}"
        + ("" if each.kept else ", so the head was not changed")
        for each in report.refitted
        if each.before is not None
    ]
    if parts:
        return f"Linear heads were re-fitted at the end. Accuracy on validation images: {'; '.join(parts)}."
    heads = ", ".join(each.head for each in report.refitted)
    return f"Linear heads were re-fitted at the end, without validation images: {heads}." if heads else ""


def time_sentence(report: Report) -> str:
    """Return one sentence: how long the run took, and its longest stages; empty if it was not measured."""
    stages = report.stages
    if not stages:
        return ""
    longest = sorted(stages, key=lambda each: -each.wall_s)[:LONGEST_STAGES]
    parts = ", ".join(f"{each.stage} {duration(each.wall_s)}" for each in longest)
    return f"The run took {duration(sum(each.wall_s for each in stages))}, most of it in: {parts}."


def exceptions(report: Report) -> list[tuple[str, list[str]]]:
    """Return the reasons why files failed or were not run, each with the paths it concerns."""
    by_reason: dict[str, list[str]] = {}
    for row in report.artifacts:
        if row.status != "pass":
            state = "not run" if row.status == "not-run" else "failed"
            reason = (row.reason or "no reason given").rstrip(". ")
            by_reason.setdefault(f"{state}: {reason}", []).append(row.path)
    return list(by_reason.items())


def ladder_rows(report: Report) -> list[tuple[str, Rung]]:
    """Return the rungs of each product in order, each once even if several files share it."""
    rows: dict[tuple[str, str, str], tuple[str, Rung]] = {}
    for row in report.artifacts:
        for rung in row.ladder:
            rows.setdefault((row.product, rung.name, rung.against), (row.product, rung))
    return list(rows.values())


def broken_sentence(report: Report) -> str:
    """Return one sentence: whether the ladder holds, or the first failing rung of each product."""
    rows = ladder_rows(report)
    if not rows:
        return "No rung of the parity ladder was checked."
    first: dict[str, Rung] = {}
    for product, rung in rows:
        if rung.status == "fail":
            first.setdefault(product, rung)
    if first:
        broken = "; ".join(f"{product} at {rung.name}: {rung.reason}" for product, rung in first.items())
        return f"The parity ladder breaks: {broken}."
    checked = sum(rung.status == "pass" for _, rung in rows)
    rest = sum(rung.status == "not-run" and rung.reason != NOT_STRIPPED for _, rung in rows)
    return f"The parity ladder holds on all {checked} rungs that could be run" + (
        f"; {rest} could not be run here." if rest else "."
    )


def rung_line(rung: Rung) -> str:
    """Return one rung in one line, such as ``folded against stripped: pass, …``."""
    head = f"  {rung.name} against {rung.against}: {rung.status}"
    if rung.max_abs_diff is None:
        return f"{head}, {rung.reason}"
    return (
        f"{head}, largest difference {difference(rung.max_abs_diff)} "
        f"(allowed {difference(rung.tolerance)}), same class {percent(rung.agreement, 2)} "
        f"of {rung.images} images"
    )
