from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import golden
import pytest
from markdown_it import MarkdownIt

from imf_deploy.records.report import Report
from imf_deploy.report.html import render_html
from imf_deploy.report.markdown import render_markdown
from imf_deploy.show.markdown import code, fenced, text

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b | c",
    "a \\| b",
    "``` \n# heading\n",
    "`code` ``more``",
    "[link](https://example.org)",
    "![picture](https://example.org/x.png)",
    "https://example.org www.example.org",
    "<https://example.org>",
    "_a_b_ __c__",
    "**bold** _slanted_ ~~gone~~",
    "line\n\n# heading\n\n- item",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "===",
    "> quote",
    "&lt;b&gt; &amp;",
    "$x^2$",
    "\x1b[31m\u202e",
]


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def page(markdown: str) -> Page:
    """Render as GitHub does before it makes HTML safe: tables, struck words, HTML as it is."""
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(words: str) -> str:
    return words.replace("\u200b", "")


def test_what_a_reviewer_reads(report: dict[str, Any]) -> None:
    markdown = render_markdown(Report.of(report))
    lines = markdown.splitlines()
    assert lines[0] == "# mobilenetv2 from cifar_resnet20x4: deployment report"
    assert lines[2].startswith(
        "**Deploy deploy/mobilenetv2-imf@3-fp32.onnx: the fastest file within 0.5 points"
    )
    assert "missed their gate" not in markdown
    row = next(line for line in lines if line.startswith("| **`deploy/mobilenetv2-imf@3-fp32.onnx`**"))
    assert row.split(" | ")[1:] == [
        "pass",
        "89.8 % (88.5–91.2)",
        "90.2 %",
        "100 %",
        "1.71",
        "2.24",
        "2.98× (2.89–3.04)",
        "4.88 MB",
        "17.1 M |",
    ]
    assert "- not run: no CUDA device (2 files)" in lines
    assert "- fp16 files are meant for GPUs; on this CPU they are slower than fp32." in lines
    assert "```sh\nimf-deploy distill-and-export --student mobilenetv2" in markdown
    assert "onnxruntime 1.32.0" in lines[-1]


def test_it_renders_to_two_tables(report: dict[str, Any]) -> None:
    rendered = page(render_markdown(Report.of(report)))
    assert rendered.tags.count("table") == 2
    files, measured = len(report["artifacts"]), [row for row in report["artifacts"] if row["metrics"]]
    products = len({row["product"] for row in measured})
    assert rendered.tags.count("tr") == 1 + files + 1 + products + len(measured)
    assert rendered.tags.count("td") == 10 * files + 6 * (products + len(measured))


def test_failures_come_first(report: dict[str, Any]) -> None:
    row = report["artifacts"][1]
    row["status"], row["reason"] = "fail", "max difference 0.3 is above 0.05"
    row["accuracy"], row["max_abs_diff"] = None, math.nan
    markdown = render_markdown(Report.of(report))
    told = "- `deploy/mobilenetv2-imf@1-fp16.onnx`: max difference 0.3 is above 0.05"
    assert markdown.index("**1 of 10 files missed their gate:**") < markdown.index(told)
    assert markdown.index(told) < markdown.index("**Deploy ")


def test_a_run_with_hardly_anything(report: dict[str, Any]) -> None:
    report["artifacts"], report["strip"], report["notes"] = [], [], []
    report["environment"], report["recommendation"] = {}, None
    markdown = render_markdown(Report.of(report))
    assert "**Deploy nothing from this run: it made no files.**" in markdown
    assert "|" not in markdown


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_out(report: dict[str, Any], name: str) -> None:
    clean = page(render_markdown(Report.of(report))).tags
    report["student"] = report["teacher"] = report["dataset"] = name
    report["command"] = f"imf-deploy {name}"
    report["environment"] = {"cpu": name, "versions": {name: name}}
    report["notes"] = [name]
    report["refitted"] = [{"head": name, "before": 0.5, "after": 0.6, "kept": True}]
    for row in report["artifacts"]:
        row["path"] = name
        if row["status"] == "not-run":
            row["reason"] = name
    report["recommendation"] = {"path": name, "reason": name}
    rendered = page(render_markdown(Report.of(report)))
    # All files have the recommended one's path, so the first is the one in bold.
    assert sorted(rendered.tags) == sorted(clean)


@pytest.mark.parametrize("name", HOSTILE[:-1])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    one_line = " ".join(name.split())
    assert shown(page(f"- {text(name)}").text).strip() == one_line
    table = page(f"| a | b |\n| --- | --- |\n| {code(name)} | {text(name)} |")
    assert table.tags.count("td") == 2
    assert shown(table.text).count(one_line) == 2


def test_a_command_cannot_close_its_fence() -> None:
    rendered = page(fenced("a ``` b\n```\n# heading", "sh"))
    assert rendered.tags == ["pre", "code"]


@pytest.mark.parametrize("command", [*HOSTILE[:-1], "a <script>alert(1)</script> & b\n\n</pre># heading `c`"])
def test_a_command_is_shown_as_it_is_and_holds_no_tag(command: str) -> None:
    block = fenced(command, "sh")
    assert not re.search(r"<(?!/?(pre|code)>)", block)
    rendered = page(f"before\n\n{block}\n\n# after")
    assert rendered.tags == ["p", "pre", "code", "h1"]
    assert "\n".join(command.splitlines()) in rendered.text


def poisoned(value: Any) -> Any:
    """Return a report in which every text ends in a script, an escape and a mark that turns text around."""
    if isinstance(value, dict):
        kept = ("status", "format")  # from closed lists
        return {key: item if key in kept else poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return f"{value}<script>alert(1)</script>\x1b[2J\u202e\u2028" if isinstance(value, str) else value


def test_no_text_of_a_report_reaches_a_page_as_more_than_text(report: dict[str, Any]) -> None:
    crafted = poisoned({**report, "schema": report["schema"]})
    for written in (render_markdown(Report.of(crafted)), render_html(Report.of(crafted))):
        assert "<script" not in written
        assert "\\u202e" in written
        assert not set("\x1b\u202e\u2028") & set(written)


def test_nobody_is_called_and_nothing_is_linked() -> None:
    assert text("@team imf@3") == "@&#8203;team imf@3"
    assert "://" not in text("https://example.org")
    assert code("deploy/a-imf@3.onnx") == "`deploy/a-imf@3.onnx`"
    assert code("@team").startswith("`")
    assert code("a b") == "<code>a b</code>"


def test_the_summary_and_the_record_of_a_known_report(report: dict[str, Any], tmp_path: Path) -> None:
    read = Report.of(report)
    golden.check("report.md", render_markdown(read))
    read.save(tmp_path / "report.json")
    golden.check("report.json", (tmp_path / "report.json").read_text())
