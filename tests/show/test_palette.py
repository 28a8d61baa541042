"""Every colour is declared once, and can be read on its background."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imf_deploy.show.palette import DARK, INLINE, LIGHT, PAPER, PRINTED, SERIES, css_variables

PACKAGE = Path(__file__).parents[2] / "imf_deploy"
# Not an HTML entity such as &#8203; and not a part of a longer word.
COLOR = re.compile(r"(?<![&\w])#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})\b")


def luminance(color: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    channels = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_stand_in_the_palette_alone() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {color}"
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".j2", ".css") and path.name != "palette.py"
        for color in COLOR.findall(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("text", ["color: #fff;", 'INK = "#1a1a1a"', "--paper:#15181CFF"])
def test_a_colour_elsewhere_would_be_seen(text: str) -> None:
    assert COLOR.search(text)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_text_and_marks_can_be_read(scheme: dict[str, str]) -> None:
    paper = luminance(scheme["paper"])
    for name, color in scheme.items():
        if name in ("paper", "panel", "rule"):
            continue
        light, dark = sorted((luminance(color), paper), reverse=True)
        wanted = 3.0 if name.startswith("series") else 4.5  # graphics, and text
        assert (light + 0.05) / (dark + 0.05) >= wanted, name


def test_both_schemes_and_every_stand_in_are_whole() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert INLINE.keys() == PRINTED.keys() >= {PAPER, *SERIES}
    declared = set(re.findall(r"--([\w-]+):", css_variables(LIGHT)))
    used = {name for css in INLINE.values() for name in re.findall(r"var\(--([\w-]+)\)", css)}
    pages = "".join(path.read_text("utf-8") for path in (PACKAGE / "show/templates").iterdir())
    used.update(re.findall(r"var\(--([\w-]+)\)", pages))
    assert used <= declared
