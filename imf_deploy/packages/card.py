"""The card of a package: what the network is, how good, how it was checked, and how it is used."""

from __future__ import annotations

from collections.abc import Sequence

from imf_deploy.packages.source import Source
from imf_deploy.records.files import OnnxFile
from imf_deploy.show.format import percent


def card(source: Source, files: Sequence[OnnxFile], how: str) -> str:
    """Return the card as Markdown.

    Args:
        source: What is packaged.
        files: The packaged files.
        how: How the system that the package is for uses it, as Markdown.
    """
    report, row, file = source.report, source.row, source.file
    taught = f", distilled from {report.teacher}" if report.teacher else ""
    passed = {"pass": "passed its gate", "fail": f"**missed its gate**: {row.reason}"}
    parts = [
        f"# {source.name}",
        f"An image classifier of {len(file.preprocess.labels)} classes: {report.student}{taught} on "
        f"{report.dataset}.",
        how.strip(),
        "## How good it is",
        _table(source, files),
        f"`{row.path}` of the run {passed.get(row.status, f'was not verified: {row.reason}')}. Every file "
        "here was compared with its file of the run, and the record beside it holds the measurements.",
        "\n".join(f"- {note}" for note in report.notes),
        "## Input and output",
        "\n".join(f"- `{each.path.name}`: {' '.join(each.usage)}" for each in files),
        "The labels, in the order of the output, are in `labels.txt`.",
        "## Check it",
        "`sha256sum --check SHA256SUMS` checks the files. `vectors/` has ten test images, the tensor "
        "(`input.bin`) that the network sees, and the logits (`logits.bin`) that it must return within the "
        "tolerance in `vectors.json`. Numbers are little-endian, without a header.",
        "## Licence",
        "The network is a product of its training data, whose licence may bind what you do with it. The test "
        "images are part of that data.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(source: Source, files: Sequence[OnnxFile]) -> str:
    rows = ["| file | precision | accuracy | same class as PyTorch | images |", "|---|---|---|---|---|"]
    for file in files:
        verify = file.verify
        if verify is not None and verify.accuracy is not None and verify.agreement is not None:
            rows.append(
                f"| `{file.path.name}` | {file.precision} | {percent(verify.accuracy)} | "
                f"{percent(verify.agreement)} | {verify.images} |"
            )
    return "\n".join(rows) if len(rows) > 2 else ""
