"""Picture of the layers that quantisation harms most."""

from __future__ import annotations

from imf_deploy.records.making import Calibration
from imf_deploy.show.format import known, significant
from imf_deploy.show.palette import SERIES
from imf_deploy.show.svg import inline_svg, panel, style

SHOWN = 12
"""Layers in a picture; the record of the file has them all."""


def sensitivity_bars(calibration: Calibration, name: str) -> str | None:
    """Return bars of the divergence that each layer causes when it alone is quantised, worst first.

    Layers that went back to float have another colour. The axis is logarithmic, since a few layers
    cause a hundred times what the others do.

    Args:
        calibration: Of one INT8 file.
        name: Prefix of the picture's ids, unique on the page.
    """
    harms = calibration.sensitivity[:SHOWN]
    values = [harm.divergence for harm in harms]
    largest = max((value for value in values if known(value)), default=0.0)
    if not harms or largest <= 0:
        return None
    # A layer that ruins the network has no number: its bar is longer than all others.
    lengths = [value if known(value) else 10 * largest for value in values]
    floor = max(min((length for length in lengths if length > 0), default=largest) / 3, largest * 1e-6)
    floats = set(calibration.float_layers)
    with style():
        figure, axes = panel(96 + 22 * len(harms))
        for kept, colour, words in ((False, SERIES[0], "INT8"), (True, SERIES[1], "back in float")):
            rows = [row for row, harm in enumerate(harms) if (harm.layer in floats) == kept]
            if rows:
                widths = [max(lengths[row], floor) for row in rows]
                axes.barh(rows, widths, 0.7, color=colour, hatch="//" if kept else "", label=words)
        axes.set_xscale("log")
        axes.set_xlim(floor, 3 * max(lengths))
        axes.set_yticks(range(len(harms)), [harm.layer for harm in harms])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("KL divergence from float, this layer alone quantised")
        figure.legend(loc="outside upper left", ncols=2)
        told = (f"{harm.layer} {significant(harm.divergence)}" for harm in harms)
        return inline_svg(figure, name, f"Divergence that each layer causes alone: {'; '.join(told)}.")
