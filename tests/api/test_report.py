"""``imf_deploy.write_report``: reports about files from anywhere."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import imf_deploy
from imf_deploy import DistillSettings, Gate
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.report import read_report

Batches = list[tuple[Tensor, Tensor]]
FREE = Gate(max_accuracy_drop=100.0, min_agreement=0.0)


def words(page: Path) -> str:
    class Words(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    reader = Words()
    reader.feed(page.read_text())
    return " ".join(reader.text.split())


def timed(files: list[Any]) -> Any:
    return imf_deploy.bench(files, image_size=16, duration=0.05, loads=6, warmup=0.0, startup=False)


def test_a_module_that_never_saw_imf(student: nn.Module, loader: Batches, tmp_path: Path) -> None:
    fp32 = imf_deploy.export_onnx(student, tmp_path / "net-fp32.onnx", image_size=16)
    fp16 = imf_deploy.export_onnx(student, tmp_path / "net-fp16.onnx", precision="fp16", image_size=16)
    checked = imf_deploy.verify([fp32, fp16], student, loader, FREE)
    report = imf_deploy.write_report(
        tmp_path / "out",
        checked,
        [student],
        bench=timed([student, fp32]),
        validation=loader,
        notes=["A note"],
    )
    assert read_report(tmp_path / "out" / "report.json") == report.finite()
    first, second = report.artifacts
    assert (first.path, second.path) == ("../net-fp32.onnx", "../net-fp16.onnx")
    assert first.latency_ms
    assert first.speedup
    assert second.latency_ms is None
    assert first.validation_accuracy == first.accuracy
    assert first.parameters == sum(parameter.numel() for parameter in student.parameters())
    assert report.recommendation
    assert report.recommendation.path == first.path
    assert (report.teacher, report.seed, report.command, report.strip) == ("", None, "", [])
    page, text = words(tmp_path / "out" / "report.html"), (tmp_path / "out" / "report.md").read_text()
    assert "strip: not applicable" in page
    assert "could not be run" not in page
    for shown in (page, text):
        assert "TinyNet: deployment report" in shown
        assert "A note" in shown
        assert "TinyNet was not distilled here" in shown
        assert "eacher" not in shown
        assert "Seed" not in shown
        assert "ow to repeat" not in shown
        assert "None" not in shown


def test_what_was_distilled(student: nn.Module, big: nn.Module, loader: Batches, tmp_path: Path) -> None:
    settings = DistillSettings(epochs=2, lr=0.02, device="cpu", seed=7)
    distilled = imf_deploy.distill(student, big, loader, loader, settings)
    (small,) = imf_deploy.strip(distilled, ["imf@1"])
    checked = imf_deploy.verify(imf_deploy.export_onnx(small, tmp_path / "small.onnx"), small, loader, FREE)
    report = imf_deploy.write_report(tmp_path, [checked], [small], distilled=distilled)
    assert (report.teacher, report.seed, len(report.history)) == ("CifarResNet", 7, 2)
    assert [proof.product for proof in report.strip] == ["imf@1"]
    page = words(tmp_path / "report.html")
    assert "Student TinyNet, teacher CifarResNet" in page
    assert "equal within rounding" in page or "identical, bit for bit" in page


def test_what_is_no_report(student: nn.Module, loader: Batches, tmp_path: Path) -> None:
    fp32 = imf_deploy.export_onnx(student, tmp_path / "net.onnx", image_size=16)
    with pytest.raises(UsageError, match="no files to report on"):
        imf_deploy.write_report(tmp_path, [])
    with pytest.raises(ImfDeployError, match="was not verified"):
        imf_deploy.write_report(tmp_path, [fp32])
    checked = imf_deploy.verify(fp32, student, loader, FREE)
    with pytest.raises(UsageError, match="timed without its network"):
        imf_deploy.write_report(tmp_path, [checked], bench=timed([fp32]))
    assert not (tmp_path / "report.json").exists()
