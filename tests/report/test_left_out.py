from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

import pytest

from imf_deploy.records.report import Report
from imf_deploy.report.html import render_html
from imf_deploy.report.left_out import left_out
from imf_deploy.report.markdown import render_markdown
from imf_deploy.report.terminal import summary_lines
from imf_deploy.settings import RunSettings
from imf_deploy.settings.run import DeploySettings
from imf_deploy.stripping.best import Candidate, select

FP32 = DeploySettings(precisions=("fp32",))
COMMAND = "imf-deploy distill-and-export --data 'my photos' --overwrite --products best"
CHOSEN = select([Candidate("plain", 100, 0.9), Candidate("imf@1", 20, 0.5), Candidate("imf@2", 30, 0.9)])


def test_the_command_adds_what_is_missing_and_removes_nothing() -> None:
    left = left_out(RunSettings(), CHOSEN, True, COMMAND)
    assert left is not None
    assert left.products == ["imf@1"]
    assert any("INT8" in words for words in left.files)
    words = shlex.split(left.command)
    assert words[:4] == ["imf-deploy", "distill-and-export", "--data", "my photos"]
    assert "--overwrite" not in words
    # Of an option that is given twice the last one counts.
    assert words[-4:] == ["--products", "all", "--precisions", "fp32,fp16,int8"]


def test_what_was_asked_for_by_name_is_not_left_out() -> None:
    assert left_out(RunSettings(products=("plain",), export=FP32), None, True, COMMAND) is None
    left = left_out(RunSettings(products=("plain",)), None, False, "a caller's own")
    assert left is not None
    assert (left.products, left.files) == ([], ["the fp16 ONNX file"])
    assert left.command.endswith("--precisions fp32,fp16,int8")
    assert "--products" not in left.command
    everything = select([Candidate("plain", 100, 0.9), Candidate("imf@1", 20, 0.95)])
    assert left_out(RunSettings(export=FP32), everything, True, COMMAND) is None


@pytest.mark.parametrize("nothing", [None, "missing"])
def test_the_beginning_of_every_report_says_what_was_left_out(report: dict[str, Any], nothing: str) -> None:
    left = left_out(RunSettings(), CHOSEN, True, COMMAND)
    assert left is not None
    report["left_out"] = asdict(left)
    said = "Left out: the product imf@1; of each product the engines in fp32 and int8 and the INT8 ONNX file"
    assert said in summary_lines(Report.of(report))[0]
    assert "--products all --precisions fp32,fp16,int8" in summary_lines(Report.of(report))[0]
    page = render_html(Report.of(report))
    lead = page[page.index('<p class="lead">') :].partition("<h2>")[0]
    assert said in lead
    assert "--products all --precisions fp32,fp16,int8</code>" in lead
    first = render_markdown(Report.of(report)).split("\n\n")[1]
    assert said in first
    assert "--products all --precisions fp32,fp16,int8" in first
    report["left_out"] = None
    if nothing:
        del report["left_out"]  # as in reports of earlier versions
    assert "Left out" not in render_html(Report.of(report)) + render_markdown(Report.of(report)) + str(
        summary_lines(Report.of(report))
    )


def test_where_the_time_went(report: dict[str, Any]) -> None:
    report["stages"] = [
        {"stage": name, "wall_s": seconds, "processor_s": 0.0}
        for name, seconds in (
            ("teacher", 3.0),
            ("distil", 200.0),
            ("export", 41.0),
            ("verify", 21.0),
            ("report", 5.0),
        )
    ]
    said = "The run took 4 min, most of it in: distil 3 min, export 40 s, verify 20 s, report 5 s."
    assert said in render_html(Report.of(report))
    assert said in render_markdown(Report.of(report))
    del report["stages"]  # as in reports of earlier versions
    assert "The run took" not in render_html(Report.of(report)) + render_markdown(Report.of(report))
