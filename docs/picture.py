"""Draw the main part of what a finished run prints as SVG, for the README.

.venv-test/bin/python docs/picture.py imf-deploy-out/report.json docs/pictures/main-job.svg
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from imf_deploy.records.report import read_report
from imf_deploy.report.terminal import summary_table
from imf_deploy.report.verdict import check_sentence, deploy_sentence, teacher_sentence

WIDTH = 100


def draw(report: Path, command: str) -> str:
    """Return the files of a report and what to deploy, below the command that made it, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(Text(f"$ {command}\n", style="bold"))
    content = read_report(report)
    console.print(summary_table(content), Text())
    for sentence in (teacher_sentence, check_sentence, deploy_sentence):
        console.print(Text(sentence(content)))
    svg = console.export_svg(title="imf-deploy", unique_id="imf-deploy")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture loads nothing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, help="report.json of a finished run")
    parser.add_argument("output", type=Path, help="SVG file to write")
    parser.add_argument("--command", default="imf-deploy distill-and-export --student mobilenetv2")
    chosen = parser.parse_args()
    chosen.output.write_text(draw(chosen.report, chosen.command), encoding="utf-8")
