"""Images on the page that a file classifies differently."""

import base64
import io
from typing import Any

import torch
from PIL import Image

from imf_deploy.data import Split
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.records.report import Report
from imf_deploy.report.changes import changed_images
from imf_deploy.report.html import render_html
from imf_deploy.show.thumbnails import LARGEST, thumbnails


def test_each_image_stands_once_the_farthest_first(report: dict[str, Any]) -> None:
    (entry,) = changed_images(Report.of(report).artifacts)
    assert (entry["image"], entry["label"], len(entry["answers"])) == (17, "Shirt", 4)
    assert {row.precision for row, _ in entry["answers"]} == {"fp16"}
    other = dict(report["artifacts"][1]["worst"][0], image=3, divergence=9.0)
    report["artifacts"][1]["worst"].append(other)
    assert [entry["image"] for entry in changed_images(Report.of(report).artifacts)] == [3, 17]
    assert len(changed_images(Report.of(report).artifacts, 1)) == 1


def test_the_page_has_tables_and_pictures(report: dict[str, Any]) -> None:
    page = render_html(Report.of(report))
    assert "Changes by class" in page
    assert "3 of 2000 images get another class" in page
    assert f'src="{report["pictures"]["17"]}"' in page
    assert "Coat" in page
    report["pictures"] = {}
    assert "Images that a file classifies differently" in render_html(Report.of(report))


def test_thumbnails_are_what_the_network_sees() -> None:
    grey = torch.arange(2 * 28 * 28, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 1, 28, 28)
    pictures = thumbnails(Split.whole(MemoryImages(grey, torch.zeros(2, dtype=torch.int64))), [1, 1])
    assert list(pictures) == ["1"]
    shown = read(pictures["1"])
    assert shown.mode == "L"
    assert shown.tobytes() == grey[1].numpy().tobytes()
    large = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    shown = read(thumbnails(Split.whole(MemoryImages(large, torch.zeros(1, dtype=torch.int64))), [0])["0"])
    assert (shown.mode, shown.size) == ("RGB", (LARGEST, LARGEST))
    assert thumbnails(Split.whole(MemoryImages(large, torch.zeros(1, dtype=torch.int64))), []) == {}


def read(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
