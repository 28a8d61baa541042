"""What a run could have made and did not, and the command that adds it."""

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
    """Return what is not made because a default or a name chose for the user; nothing where all is made.

    Of a trial nothing is missed.

    Args:
        config: What was asked for.
        selection: Which products were chosen; nothing where the user named them, or all are made.
        engines: Whether there is a TensorRT.
        command: The command of the run; empty where a program made it.
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
    """Return a command with more options; of an option that is given twice, the last one counts.

    ``--overwrite`` is dropped, since it would remove what there is.
    """
    if not command:
        return ""
    try:
        words = shlex.split(command)
    except ValueError:  # a caller's own words
        return f"{command} {shlex.join(options)}"
    return shlex.join([*(word for word in words if word != "--overwrite"), *options])


def left_out_sentence(report: Report) -> str:
    """Return what was left out, up to the words that introduce the command; empty where nothing was."""
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
    """Return the command that makes what was left out; empty where nothing was."""
    left = report.left_out
    return left.command if left else ""
