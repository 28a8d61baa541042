"""The energy counters, on folders that look like the kernel's."""

import os
from pathlib import Path

import pytest

from imf_deploy.benchmark.conditions import EnergyMeter, find_energy_meter


def zone(root: Path, folder: str, name: str, value: int = 0, most: int = 1000) -> Path:
    """Write a power zone; returns its counter."""
    place = root / folder
    place.mkdir()
    for file, text in (("name", name), ("energy_uj", value), ("max_energy_range_uj", most)):
        (place / file).write_text(f"{text}\n")
    return place / "energy_uj"


def test_packages_are_summed_and_what_lies_inside_them_is_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 200)
    zone(tmp_path, "intel-rapl:0:0", "core", 50)
    zone(tmp_path, "intel-rapl:2", "psys", 999)
    (tmp_path / "intel-rapl").mkdir()  # the control type itself, which is no zone
    meter = find_energy_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    assert meter.read() == (100, 200)
    before = meter.read()
    first.write_text("150")
    second.write_text("260")
    assert meter.joules(before, meter.read()) == pytest.approx(110e-6)


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 990, most=999)
    meter = find_energy_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    before = meter.read()
    counter.write_text("5")
    assert meter.joules(before, meter.read()) == pytest.approx(15e-6)


def test_no_zones_say_why(tmp_path: Path) -> None:
    assert "no processor package" in str(find_energy_meter(tmp_path))
    assert "no processor package" in str(find_energy_meter(tmp_path / "none"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_counter_for_root_alone_says_so(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0").chmod(0)
    assert "only by root" in str(find_energy_meter(tmp_path))
