"""The parity ladder in words and as rows of a table.

It is not in verification/, which compares networks: it only puts records of comparisons into words.
"""

from imf_deploy.records.checks import Rung
from imf_deploy.records.report import Report
from imf_deploy.show.format import difference, percent
from imf_deploy.verification.ladder import NOT_STRIPPED


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
