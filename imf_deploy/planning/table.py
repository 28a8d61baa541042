"""A plan on a terminal: one row for each product, below its candidate."""

from rich.console import Group
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.planning.result import PlanResult, PricedFile
from imf_deploy.show.columns import Cell, Column, FittingTable, Section
from imf_deploy.show.format import UNKNOWN, scaled, significant

COLUMNS = (
    Column("product", "left"),
    Column("fp32 ms"),
    Column("int8 ms"),
    Column("fp32 size", spare=1),
    Column("int8 size", spare=1),
    Column("MACs"),
    Column("parameters", spare=2),
)


def render(result: PlanResult) -> Group:
    """Return a plan for a rich console; times within the budget are green, and the largest file is bold."""
    largest = result.largest[0] if result.largest else None
    sections = []
    for name, products in result.by_candidate():
        rows: list[list[Cell]] = []
        for product in products:
            files = (product.file("fp32"), product.file("int8"))
            rows.append(
                [
                    product.product,
                    *(_latency(result, file) for file in files),
                    *(scaled(file.size_bytes, "B") if file else UNKNOWN for file in files),
                    scaled(product.macs),
                    scaled(product.parameters),
                ]
            )
        bold = frozenset(place for place, product in enumerate(products) if product is largest)
        sections.append(Section(name, rows, bold))
    return Group(FittingTable(COLUMNS, sections), *(Text(visible(line)) for line in lines(result)))


def lines(result: PlanResult) -> list[str]:
    """Return the sentences below the table."""
    command = result.command()
    train = [f"To train it: {command}, with your --data"] if command else []
    return [*result.notes, result.sentence(), *train]


def _latency(result: PlanResult, file: PricedFile | None) -> Cell:
    if file is None:
        return UNKNOWN
    text = significant(file.latency.p50)
    return (text, "green") if result.limited and file.within(result.budget) else text
