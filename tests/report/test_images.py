"""The numbers of images in a report: JSON, HTML and Markdown."""

from pathlib import Path
from typing import Any

from imf_deploy.records.report import Report, read_report
from imf_deploy.report.html import render_html
from imf_deploy.report.images import images_of
from imf_deploy.report.markdown import render_markdown


def test_a_run_counts_its_images(finished_run: Path) -> None:
    report = read_report(finished_run / "report.json")
    assert [(row.label, row.train, row.validation, row.test) for row in report.classes] == [
        (f"class{number}", 14, 2, 6) for number in range(3)
    ]
    assert report.unlabelled == 0
    assert any("3 of 3 classes have fewer than 10 test images" in note for note in report.notes)
    assert "| class1 | 14 | 2 | 6 |" in (finished_run / "report.md").read_text()
    assert "| all | 42 | 6 | 18 |" in (finished_run / "report.md").read_text()


def test_names_of_classes_are_escaped(report: dict[str, Any]) -> None:
    name = "<b>|cat|</b>"
    report["classes"] = [
        {"label": label, "train": 5000, "validation": 3, "test": 4} for label in (name, "dog")
    ]
    report["unlabelled"] = 1234
    page, pull = (render(Report.of(report)) for render in (render_html, render_markdown))
    assert "<b>|cat" not in page
    assert "&lt;b&gt;|cat" in page
    assert "<b>" not in pull
    assert "5,000 of each of 2 classes" in page
    assert "the distillation also used 1,234 without labels" in page


def test_of_many_classes_those_with_the_fewest_images_are_shown(report: dict[str, Any]) -> None:
    report["classes"] = [
        {"label": f"c{number}", "train": 1000 - number, "validation": 1, "test": 2} for number in range(300)
    ]
    images = images_of(Report.of(report))
    assert images
    assert [row.label for row in images.rows] == [f"c{number}" for number in range(280, 300)]
    assert images.more == 280
    assert images.total.train == sum(1000 - number for number in range(300))
    assert "701 to 1,000 of each of 300 classes" in images.sentence


def test_older_reports_have_no_counts(report: dict[str, Any]) -> None:
    assert images_of(Report.of(report)) is None
    assert 'id="images"' not in render_html(Report.of(report))
