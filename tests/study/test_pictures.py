from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from imf_deploy.errors import ImfDeployError
from imf_deploy.study.pictures import Series, draw_pictures, series_of
from imf_deploy.study.results import Network, Trained

STUDENT = "cifar:net"
THINNER = ["cifar:thin", "cifar:thinnest"]
FILES = ["accuracy-macs.svg", "accuracy-macs.png", "accuracy-latency.svg", "accuracy-latency.png"]


def words(path: Path) -> list[str]:
    """Return the texts of a picture; reading it as XML proves that it is well formed."""
    texts = ET.fromstring(path.read_text()).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in texts]


def shown(series: list[Series]) -> dict[str, list[tuple[str, float, float, float]]]:
    return {
        one.name: [(p.label, p.cost, round(p.accuracy, 2), round(p.deviation, 2)) for p in one.points]
        for one in series
    }


def test_series_of_macs(trained: list[Trained], networks: list[Network]) -> None:
    assert shown(series_of(trained, networks, STUDENT, THINNER, "macs")) == {
        "IMF, imf@k": [("imf@1", 10.0, 81.0, 2.0), ("imf@2", 30.0, 83.5, 0.5)],
        "IMF, plain": [("", 40.0, 83.0, 1.0)],
        "DKD": [("", 40.0, 81.0, 0.0)],
        "KD": [("cifar:thinnest", 2.0, 70.0, 0.0), ("", 12.0, 79.67, 0.58), ("", 40.0, 82.0, 0.92)],
        "cross-entropy": [("cifar:thin", 12.0, 77.0, 0.0), ("cifar:net", 40.0, 80.0, 0.0)],
    }


def test_series_of_latency_leave_out_what_was_not_measured(
    trained: list[Trained], networks: list[Network]
) -> None:
    networks[2] = replace(networks[2], latency_ms={"int8": 1.0})
    series = shown(series_of(trained, networks, STUDENT, THINNER, "latency"))
    assert series["IMF, imf@k"] == [("imf@1", 0.5, 81.0, 2.0)]
    assert [point[1] for point in series["KD"]] == [0.1, 0.6, 2.0]


def test_pictures_are_written_and_labelled(
    trained: list[Trained], networks: list[Network], tmp_path: Path
) -> None:
    written = draw_pictures(tmp_path / "new", trained, networks, STUDENT, THINNER)
    assert [path.name for path in written] == FILES
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(FILES)
    for path, axis in ((written[0], "multiply-accumulates"), (written[2], "(ms, fp32)")):
        told = words(path)
        wanted = ["imf@1", "imf@2", "cifar:thin", "cifar:net", "KD", "IMF, plain", "cross-entropy", axis]
        assert [word for word in wanted if not any(word in text for text in told)] == []
        assert "#0101" not in path.read_text(), "a colour that stands for a page's variable was left over"
    with Image.open(written[1]) as image:
        assert image.size == (1152, 768)
        colors = image.convert("RGB").getcolors(1 << 20) or []
        assert {(0, 114, 178), (213, 94, 0)} <= {color for _, color in colors}, "IMF's and KD's"
        assert image.convert("RGB").getpixel((2, 767)) == (255, 255, 255), "readable on a dark page"


def test_the_same_results_give_the_same_bytes(
    trained: list[Trained], networks: list[Network], tmp_path: Path
) -> None:
    first = draw_pictures(tmp_path / "a", trained, networks, STUDENT, THINNER)
    again = draw_pictures(tmp_path / "b", trained[::-1], networks[::-1], STUDENT, THINNER)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_without_latencies_there_is_one_picture(
    trained: list[Trained], networks: list[Network], tmp_path: Path
) -> None:
    unmeasured = [replace(network, latency_ms={}) for network in networks]
    assert [p.name for p in draw_pictures(tmp_path, trained, unmeasured, STUDENT)] == FILES[:2]
    assert draw_pictures(tmp_path / "none", [], networks, STUDENT) == []


def test_a_single_point_is_a_picture(trained: list[Trained], networks: list[Network], tmp_path: Path) -> None:
    one = [run for run in trained if run.method == "dkd"]
    assert [p.name for p in draw_pictures(tmp_path, one, networks, STUDENT)] == FILES


def test_a_folder_that_cannot_be_made_is_reported(
    trained: list[Trained], networks: list[Network], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(ImfDeployError, match="cannot write"):
        draw_pictures(tmp_path / "file", trained, networks, STUDENT)
