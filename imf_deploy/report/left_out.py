"""Files that a run could have made but did not, and the command that adds them."""

from __future__ import annotations

import shlex

from imf_deploy.records.report import LeftOut, Report
from imf_deploy.settings import RunSettings
from imf_deploy.settings.export import DEPLOY, EVERY_PRECISION
from imf_deploy.settings.run import ALL
from imf_deploy.stripping.best import Selection

_WITH_TENSORRT = ["the engines in fp32 and int8", "the INT8 ONNX file for TensorRT"]
_WITHOUT = ["the fp16 ONNX file"]


def left_out(config: RunSettings, selection: Selection | None, engines: bool, command: str) -> LeftOut | None:
    """Return the files that ``best`` or ``deploy`` left out; ``None`` if all are made.

    A trial (``--quick``) leaves out nothing.

    Args:
        config: Settings of the run.
        selection: Products that were chosen; ``None`` if the user named them, or all are made.
        engines: Whether TensorRT is available.
        command: The command of the run; empty if it was started from Python.
    """
    products = [each.product for each in selection.left_out] if selection else []
    files = [] if config.export.precisions != DEPLOY else _WITH_TENSORRT if engines else _WITHOUT
    added = (["--products", ALL] if products else []) + (
        ["--precisions", ",".join(EVERY_PRECISION)] if files else []
    )
    if config.quick or not added:
        return None
    return LeftOut(products, list(files), _with(command, added))


def _with(command: str, options: list[str]) -> str:
    """Return a command with more options; the last value of an option counts.

    ``--overwrite`` is dropped, because it would remove the existing files.
    """
    if not command:
        return ""
    try:
        words = shlex.split(command)
    except ValueError:  # free text of a Python caller
        return f"{command} {shlex.join(options)}"
    return shlex.join([*(word for word in words if word != "--overwrite"), *options])


def left_out_sentence(report: Report) -> str:
    """Return what was left out, up to the words that introduce the command; empty if nothing was."""
    left = report.left_out
    if not left:
        return ""
    parts = []
    if left.products:
        parts.append(f"the product{'s' if len(left.products) > 1 else ''} {', '.join(left.products)}")
    if left.files:
        parts.append(f"of each product {' and '.join(left.files)}")
    return f"Left out: {'; '.join(parts)}." + (" This adds what is missing:" if left.command else "")


def left_out_command(report: Report) -> str:
    """Return the command that makes the files that were left out; empty if none were."""
    left = report.left_out
    return left.command if left else ""
