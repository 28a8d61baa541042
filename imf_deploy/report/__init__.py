"""Reports: terminal, JSON, HTML, Markdown."""

from __future__ import annotations

from imf_deploy.report.html import render_html, write_report
from imf_deploy.report.markdown import render_markdown
from imf_deploy.report.schema import Report
from imf_deploy.report.terminal import render_summary, summary_lines, summary_table

__all__ = [
    "Report",
    "render_html",
    "render_markdown",
    "render_summary",
    "summary_lines",
    "summary_table",
    "write_report",
]
