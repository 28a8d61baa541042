from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.errors import ImfDeployError
from imf_deploy.records.report import Report
from imf_deploy.report.html import render_html, write_report
from imf_deploy.report.markdown import render_markdown
from imf_deploy.show.markdown import text as shown

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_first_thing_says_what_to_deploy(report: dict[str, Any]) -> None:
    page = render_html(Report.of(report))
    body = page[page.index("<body") :]
    answers = [
        "Deploy deploy/mobilenetv2-imf@3-fp32.onnx</p>",
        "<p>The fastest file within 0.5 points of the best. It passed its gate",
        "<dt>Test accuracy</dt><dd>89.8 %",
        "<dt>Median latency</dt><dd>1.71 ms",
        "<dt>Accuracy lost</dt><dd>0.00 points",
        "against its network in PyTorch; 100 % of the images keep their class",
        "0.40 points below the best file on validation images",
        "<b>Not checked:</b> 2 files (no CUDA device); latency on other machines than this one (Intel(R) ",
        "<h2>Notes</h2>",
    ]
    assert sorted(map(body.index, answers)) == list(map(body.index, answers))
    assert "89.8 % (88.5–91.2)" in body
    assert "the speed-up is over PyTorch (channels-last, eager)" in body
    assert "not run: no CUDA device" in body
    assert body.index("<dl") < body.index("Accuracy and latency") < body.index("Proof of stripping")


def test_the_page_is_self_contained(report: dict[str, Any]) -> None:
    page = render_html(Report.of(report))
    for uri in report["pictures"].values():
        page = page.replace(uri, "data:image/png;base64,")
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)
    for tag, attributes in Tags(page).found:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert not {"srcset", "action"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_hostile_names_are_escaped_everywhere(report: dict[str, Any]) -> None:
    clean = len(Tags(render_html(Report.of(report))).found)
    report["student"] = report["teacher"] = report["dataset"] = report["command"] = HOSTILE
    report["notes"] = [HOSTILE]
    report["environment"] = report["config"] = {HOSTILE: {HOSTILE: HOSTILE}}
    for block in report["blocks"]:
        block["name"] = HOSTILE
    for proof in report["strip"]:
        proof["product"] = proof["removed"][0]["module"] = HOSTILE
    for row in report["artifacts"]:
        row["path"] = row["product"] = row["precision"] = row["format"] = HOSTILE
        row["reason"], row["targets"] = HOSTILE, [HOSTILE]
        for part in (*row["ladder"], *row["classes"]):
            part |= {key: HOSTILE for key in ("name", "against", "reason", "label") if key in part}
        for worst in row["worst"]:
            worst |= {"label": HOSTILE, "pytorch": HOSTILE, "answer": f"{HOSTILE} too"}
    report["recommendation"] = {"path": HOSTILE, "reason": HOSTILE}
    report["refitted"] = [{"head": HOSTILE, "before": 0.5, "after": 0.6, "kept": True}]
    page = render_html(Report.of(report))
    tags = [tag for tag, _ in Tags(page).found]
    assert "script" not in tags
    assert tags.count("img") == 1
    assert HOSTILE not in page
    assert clean > 500


def test_a_failed_run(report: dict[str, Any]) -> None:
    report["status"], report["recommendation"] = "fail", None
    for row in report["artifacts"]:
        row["status"], row["reason"] = "fail", "accuracy is 0.0"
        row["max_abs_diff"], row["cosine"] = math.nan, None
    for proof in report["strip"]:
        proof["keys_match"], proof["logits_identical"], proof["max_abs_diff"] = False, False, 2.0
    page = render_html(Report.of(report))
    assert "Deploy nothing from this run: no file passed its checks." in page
    assert "failed: accuracy is 0.0" in page
    assert "the strip proof holds for 0 of 4 products" in page
    assert "<td>different</td>" in page
    assert "Median latency" not in page


def test_a_run_with_hardly_anything(report: dict[str, Any]) -> None:
    report["artifacts"] = [row for row in report["artifacts"] if row["status"] == "not-run"]
    report["recommendation"], report["teacher_accuracy"] = None, None
    report["history"], report["strip"], report["blocks"], report["notes"] = [], [], [], []
    report["environment"], report["config"] = {}, {}
    del report["artifacts"][0]["targets"]
    page = render_html(Report.of(report))
    for said in ("No latency was measured", "Nothing was stripped", "There is no training history"):
        assert said in page
    report["artifacts"] = []
    assert "Deploy nothing from this run: it made no files." in render_html(Report.of(report))


def test_learning_curves_of_every_training(report: dict[str, Any]) -> None:
    page = render_html(Report.of(report))
    assert "<h3>Teacher</h3>" in page
    assert "After the dotted line" not in page
    report["config"]["qat_epochs"] = 2
    assert "After the dotted line: quantisation-aware training" in render_html(Report.of(report))
    for odd in (6, 60, -1, "2", None):  # not what a run writes
        report["config"]["qat_epochs"] = odd
        assert "After the dotted line" not in render_html(Report.of(report))
    del report["teacher_history"]
    assert "<h3>Teacher</h3>" not in render_html(Report.of(report))


FITTED = (
    "Linear heads were re-fitted at the end. Accuracy on validation images: "
    "plain 89.50 % to 90.12 %; imf@1 88.10 % to 87.95 %, so the head was not changed."
)


def test_what_fitting_heads_again_did(report: dict[str, Any]) -> None:
    page, markdown = render_html(Report.of(report)), render_markdown(Report.of(report))
    assert f"seed 0. {FITTED}</p>" in page
    assert page.index("<h2>Training</h2>") < page.index(FITTED) < page.index("<h3>Student</h3>")
    assert shown(FITTED) in markdown
    for each in report["refitted"]:
        each["before"] = each["after"] = None
    assert "re-fitted at the end, without validation images: plain, imf@1." in render_html(Report.of(report))
    for none in ([], None):
        if none is None:
            del report["refitted"]
        else:
            report["refitted"] = none
        assert "re-fitted" not in render_html(Report.of(report)) + render_markdown(Report.of(report))


def test_an_engine_can_be_recommended(report: dict[str, Any]) -> None:
    report["recommendation"] = {"path": "deploy/mobilenetv2-plain-fp16-sm86.engine", "reason": "asked for"}
    page = render_html(Report.of(report))
    assert "Deploy deploy/mobilenetv2-plain-fp16-sm86.engine</p>\n<p>Asked for." in page
    assert "not measured" in page


def test_files_are_written_and_valid(report: dict[str, Any], tmp_path: Path) -> None:
    report["artifacts"][0]["max_abs_diff"] = math.nan
    write_report(Report.of(report), tmp_path / "run")
    written = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert written == ["report.html", "report.json", "report.md"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = json.loads((tmp_path / "run/report.json").read_text(), parse_constant=refuse)
    assert content["artifacts"][0]["max_abs_diff"] is None
    written_row, row = content["artifacts"][1], report["artifacts"][1]
    for entry, given in zip(written_row.pop("classes"), row.pop("classes"), strict=True):
        assert entry.items() >= given.items()
    assert written_row.items() >= row.items()
    report = json.loads((tmp_path / "run/report.json").read_text())
    del report["schema"]
    assert (tmp_path / "run/report.html").read_text() == render_html(Report.of(report))
    assert (tmp_path / "run/report.md").read_text() == render_markdown(Report.of(report))


def test_a_folder_that_cannot_be_written(report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImfDeployError, match="cannot write"):
        write_report(Report.of(report), tmp_path / "file" / "run")
