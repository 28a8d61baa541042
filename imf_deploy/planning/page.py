"""A plan as one self-contained page, with a picture of all latencies."""

from __future__ import annotations

from imf_deploy.planning.result import PlanResult, PricedProduct, plain_size
from imf_deploy.show.format import significant
from imf_deploy.show.pages import render_template
from imf_deploy.show.palette import INK, PAPER, RULE, SERIES
from imf_deploy.show.scatter import cost_axis
from imf_deploy.show.svg import inline_svg, panel, style

PRECISIONS = ("fp32", "int8")


def render_page(result: PlanResult) -> str:
    """Return the plan as a self-contained HTML page: no script, no font, no network."""
    from markupsafe import Markup

    sizes: dict[str, list[PricedProduct]] = {}
    for product in result.products:
        sizes.setdefault(plain_size(product.spec.image_size), []).append(product)
    pictures = [latency_picture(result, products, size) for size, products in sizes.items()]
    return render_template(
        "plan.html.j2",
        result=result,
        title="Plan: " + ", ".join(dict.fromkeys(product.spec.name for product in result.products)),
        largest=result.largest[0] if result.largest else None,
        precisions=PRECISIONS,
        # The SVG text escapes its own labels.
        pictures=[Markup(svg) for svg in pictures],  # noqa: S704
    )


def latency_picture(result: PlanResult, products: list[PricedProduct], size: str) -> str:
    """Return the latencies of all products for one image size: two marks a product, and the budget.

    All sizes share the range of the axis, so that pictures can be compared.
    """
    names = [f"{product.spec.name} {product.product}" for product in products]
    limit = result.budget.latency_budget_ms
    every = [file.latency.p50 for product in result.products for file in product.files]
    marks = (("fp32", "o", SERIES[0], True), ("int8", "s", SERIES[1], False))
    with style():
        figure, axes = panel(118 + 19 * len(products))
        for row, product in enumerate(products):
            times = [file.latency.p50 for file in product.files]
            axes.plot([min(times), max(times)], [row, row], color=RULE, linewidth=2, zorder=1)
        for precision, marker, color, hollow in marks:
            places = [
                (file.latency.p50, row)
                for row, product in enumerate(products)
                if (file := product.file(precision))
            ]
            axes.plot(
                *zip(*places, strict=True) if places else ([], []),
                marker,
                color=color,
                markerfacecolor=PAPER if hollow else color,
                markersize=6.5,
                label=precision,
                zorder=3,
            )
        if limit is not None:
            axes.axvline(limit, color=INK, linewidth=1, linestyle="--", label=f"budget {limit:g} ms")
        every += [limit] if limit else []
        cost_axis(axes, every)
        if axes.get_xscale() == "log":
            axes.set_xlim(min(every) / 1.3, max(every) * 1.3)
        axes.set_yticks(range(len(products)), names)
        axes.set_ylim(len(products) - 0.4, -0.6)
        axes.set_xlabel("median latency (ms); lower is better")
        axes.set_title(f"{size} px")
        figure.legend(loc="outside upper left", ncols=3)
        parts = (
            f"{name} "
            + ", ".join(f"{file.precision} {significant(file.latency.p50)} ms" for file in product.files)
            for name, product in zip(names, products, strict=True)
        )
        return inline_svg(figure, f"latency-{size}", f"Latency at {size} px: {'; '.join(parts)}.")
