"""The colours of charts and pages, each declared once."""

from collections.abc import Mapping

# Okabe and Ito's colour-blind-safe palette, in an order that keeps neighbours apart; darker on white.
_ON_LIGHT = ("#0072b2", "#d55e00", "#008563", "#b0558a", "#8a6d00")
_ON_DARK = ("#56b4e9", "#ff9550", "#3cc7a0", "#e39bc6", "#e3cb3f")


def _series(colors: tuple[str, ...]) -> dict[str, str]:
    return {f"series-{number}": color for number, color in enumerate(colors, 1)}


LIGHT = {
    "ink": "#1b1f24", "quiet": "#57606a", "paper": "#ffffff", "panel": "#f6f7f8", "rule": "#d5d9de",
    "good": "#1a6b38", "bad": "#b3261e", "wait": "#7a5200", **_series(_ON_LIGHT),
}  # fmt: skip
DARK = {
    "ink": "#e4e7eb", "quiet": "#a1a9b3", "paper": "#15181c", "panel": "#1e2227", "rule": "#3c434b",
    "good": "#6fcf8e", "bad": "#ff8a80", "wait": "#e6b450", **_series(_ON_DARK),
}  # fmt: skip
"""Colours of a page by the names of its CSS variables, for the light and the dark scheme."""

INK, RULE, PAPER = "#010101", "#010102", "#010103"
SERIES = tuple(f"#01011{number}" for number in range(1, 6))
"""Placeholder colours that inline SVG is drawn with; :data:`INLINE` maps them to the page's own colours."""
INLINE = {INK: "currentColor", RULE: "var(--rule)", PAPER: "var(--paper)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(SERIES, 1)
}

PRINTED = {INK: "#1a1a1a", RULE: "#dcdcdc", PAPER: "white", **dict(zip(SERIES, _ON_LIGHT, strict=True))}
"""Their values in a figure that is a file of its own."""
GREY = "#5f5f5f"


def css_variables(colors: Mapping[str, str]) -> str:
    """Return colours as declarations of CSS variables."""
    return " ".join(f"--{name}: {color};" for name, color in colors.items())
