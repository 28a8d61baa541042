"""Charts as SVG."""

from __future__ import annotations

import contextlib
import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from imf_deploy.show.palette import INK, INLINE, RULE

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "imf-deploy",
    "text.parse_math": False,  # dollar signs do not start formulas
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "hatch.color": INK,
    "hatch.linewidth": 0.7,
}
WIDTH = 440
"""Width of a chart in its own units; a phone shows it at four fifths, and letters stay readable."""


@contextlib.contextmanager
def style(colors: Mapping[str, str] | None = None) -> Iterator[None]:
    """Return the context in which a chart must be both drawn and saved.

    Args:
        colors: Values of the palette's colours, for a chart that is a file of its own.
    """
    import matplotlib

    with (
        matplotlib.rc_context({key: (colors or {}).get(value, value) for key, value in _RC.items()}),
        warnings.catch_warnings(),
    ):
        # The page is shown in the reader's font, which has the glyphs that matplotlib's lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def panel(height: int) -> tuple[Figure, Axes]:
    """Return a figure ``WIDTH`` units wide with one set of axes, free of pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
    figure.patch.set_alpha(0)
    return figure, figure.add_subplot()


def log_scale(axes: Axes, side: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of every decade.

    Over more than three decades, only powers of ten are labelled. Matplotlib's own labels are formulas, of
    which a page would show the source.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if side == "x" else axes.yaxis

    def label(value: float, _: int | None) -> str:
        low, high = axis.get_view_interval()
        power = math.log10(value) if value > 0 else 0.5
        return f"{value:g}" if high <= 1e3 * low or math.isclose(power, round(power), abs_tol=1e-6) else ""

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_locator(NullLocator())


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """Return a figure as an ``<svg>`` element for an HTML page; the same figure gives the same text.

    Args:
        figure: Figure drawn with the colours of :mod:`imf_deploy.show.svg`, inside :func:`style`.
        name: Prefix that keeps the ids of several charts on a page distinct.
        alt: Description of the chart for screen readers.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', text)
    body = text[text.index(">") + 1 :].strip()
    # A style element would apply to the whole page; the page's own CSS contains its rule.
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    # Use the reader's font; matplotlib measured with its own, which is wider than most.
    body = re.sub(r"(font: [^;\"]*?px)[^;\"]*", r"\1 system-ui, sans-serif", body)
    for sentinel, css in INLINE.items():
        body = body.replace(sentinel, css)
    box = view.group(0) if view else ""
    return f'<svg {box} role="img" aria-label="{html.escape(alt, quote=True)}">{body}'
