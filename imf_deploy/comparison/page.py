"""A comparison as one self-contained page."""

from __future__ import annotations

from imf_deploy.comparison.entry import LATENCY, SIZE
from imf_deploy.comparison.picture import front_picture
from imf_deploy.comparison.stage import Comparison
from imf_deploy.show.pages import render_template


def render_page(comparison: Comparison) -> str:
    """Return the comparison as an HTML page that needs nothing else: no script, no font, no network."""
    from markupsafe import Markup

    pictures = {
        front: front_picture(comparison.entries, front, comparison.choice.entry) for front in (LATENCY, SIZE)
    }
    return render_template(
        "compare.html.j2",
        comparison=comparison,
        report=comparison.runs[0].report,
        has_memory=any(entry.row.memory_bytes for entry in comparison.entries),
        # The SVG text escapes its own labels.
        pictures={name: Markup(svg) for name, svg in pictures.items() if svg},  # noqa: S704
    )
