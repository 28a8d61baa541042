"""The tables of a study, as Markdown: methods, settings of IMF, and the family of networks."""

from collections.abc import Collection, Sequence

from imf_deploy.method.names import PLAIN
from imf_deploy.show.format import UNKNOWN, scaled, significant
from imf_deploy.show.markdown import code, text
from imf_deploy.study import selection
from imf_deploy.study.results import Network, Trained
from imf_deploy.study.selection import Runs, test_accuracies, title, validation_accuracies
from imf_deploy.study.statistics import Difference, paired_difference, paired_ratio, spread

INTERVAL_NOTE = (
    "± is the standard deviation over seeds. Brackets show the 95 % interval of the mean difference over "
    "pairs of the same seed (Student's t). It covers the variation of training, not the sampling of the "
    "test images. Differences in bold have an interval that excludes zero."
)


def methods_table(trained: Collection[Trained], student: str) -> str:
    """Return the table of methods on the test split: accuracy, differences to KD and to cross-entropy.

    Args:
        trained: Trainings of one budget. Those with a variant, or without a test, are left out.
        student: The architecture that the table is about.

    Returns:
        Markdown that ends with a newline. Differences are relative to the plain students of KD and
        cross-entropy; the CPU time is the median of the ratios to KD with the same seed.
    """
    methods = selection.tested(trained, student)
    kd, ce = methods.get("kd", {}), methods.get("ce", {})
    rows = []
    for method, runs in methods.items():
        time = paired_ratio(selection.cpu_seconds(runs), selection.cpu_seconds(kd))
        for product in _products(runs):
            values = test_accuracies(runs, product)
            to_kd = paired_difference(values, test_accuracies(kd))
            to_ce = paired_difference(values, test_accuracies(ce))
            rows.append(
                [
                    title(method) if method in selection.TITLES else text(method),
                    code(product),
                    mean_and_deviation(values.values()),
                    UNKNOWN if runs is kd and product == PLAIN else points(to_kd),
                    UNKNOWN if runs is ce and product == PLAIN else points(to_ce),
                    str(len(values)),
                    UNKNOWN if time is None else f"{time:.2f}×",
                ]
            )
    head = (
        "Method", "Product", "Test %", "Against KD (points)", "Against cross-entropy (points)", "Seeds",
        "CPU time / KD",
    )  # fmt: skip
    return f"{_table(head, 2, rows)}\n\n{INTERVAL_NOTE}\n"


def ablation_table(trained: Collection[Trained], student: str) -> str:
    """Return the table of IMF's variants on the validation split, on which settings are chosen.

    Args:
        trained: Trainings of one budget; those of other methods are left out.
        student: The architecture that the table is about.

    Returns:
        Markdown that ends with a newline. Differences are relative to the variant ``""``, for the student
        itself and for the ``imf@k`` with the largest k that the default has.
    """
    own = [run for run in trained if run.student == student and run.method == "imf"]
    variants = sorted({run.variant for run in own}, key=selection.variant_order)
    default = selection.runs_of(own, student, "imf")
    products = [PLAIN, *selection.prefixes(name for run in own for name in run.validation)]
    largest = selection.prefixes(name for run in default.values() or own for name in run.validation)[-1:]
    rows = []
    for variant in variants:
        runs = selection.runs_of(own, student, "imf", variant)
        row = [text(variant) if variant else "default", str(len(runs))]
        row += [mean_and_deviation(validation_accuracies(runs, product).values()) for product in products]
        for product in (PLAIN, *largest):
            ours, theirs = (validation_accuracies(side, product) for side in (runs, default))
            row.append(points(paired_difference(ours, theirs)) if variant else UNKNOWN)
        rows.append(row)
    head = ["Variant", "Seeds", *(f"{code(name)} %" for name in products)]
    head += [f"{code(name)} against default (points)" for name in (PLAIN, *largest)]
    several = " By chance alone, one in twenty is expected in bold." if len(variants) > 2 else ""
    note = INTERVAL_NOTE.replace("test images", "validation images")
    return f"{_table(head, 1, rows)}\n\nAccuracy on the validation split. {note}{several}\n"


def family_table(
    trained: Collection[Trained], networks: Collection[Network], student: str, thinner: Sequence[str] = ()
) -> str:
    """Return the table of networks to deploy, with their costs and accuracies on the test split.

    Rows are the ``imf@k`` from the smallest k, the student itself by IMF, KD and cross-entropy, and the
    thinner students by every method that they were trained with, from the most MACs to the fewest.

    Args:
        trained: Trainings of one budget. Those with a variant, or without a test, are left out.
        networks: Costs of the architectures; missing values are shown as a dash.
        student: The full student, which costs are relative to.
        thinner: Names of thinner students.

    Returns:
        Markdown that ends with a newline. For each architecture and product, one file is calibrated: that of
        its last method in the order of the tables, such as IMF. Its row has the INT8 accuracy.
    """
    own = selection.by_product(networks, student)
    whole = own.get(PLAIN)
    methods = selection.tested(trained, student)
    imf = methods.get("imf", {})
    names = selection.prefixes([*own, *(name for run in imf.values() for name in run.test)])
    rows = [_family_row(code(name), own.get(name), whole, test_accuracies(imf, name)) for name in names]
    rows += _by_methods(student, [m for m in ("imf", "kd", "ce") if m in methods], methods, whole, whole)
    costs = {name: selection.by_product(networks, name).get(PLAIN) for name in thinner}
    for name in sorted(thinner, key=lambda name: -(cost.macs if (cost := costs[name]) else 0)):
        theirs = selection.tested(trained, name)
        rows += _by_methods(name, list(theirs)[::-1], theirs, costs[name], whole)
    head = (
        "Network", "Parameters", "MACs (M)", "MACs / full", "fp32 ms (/ full)", "INT8 ms (/ full)",
        "Test %", "INT8 test %",
    )  # fmt: skip
    note = (
        "Latency is the median for one image; brackets show its ratio to the full student in the same "
        "precision. ± is the standard deviation over seeds; INT8 accuracy is that of one file."
    )
    return f"{_table(head, 1, rows)}\n\n{note}\n"


def mean_and_deviation(values: Collection[float]) -> str:
    """Return accuracies from 0 to 1 as ``86.45 ± 0.21``, in percent; a dash if there are none."""
    summary = spread(values)
    if summary.mean is None:
        return UNKNOWN
    deviation = "" if summary.deviation is None else f" ± {100 * summary.deviation:.2f}"
    return f"{100 * summary.mean:.2f}{deviation}"


def points(difference: Difference) -> str:
    """Return a difference of accuracies in points with its interval: ``**+0.65 [+0.20, +1.10]**``.

    The number of pairs is added if seeds were left out or are too few for an interval.
    """
    if difference.mean is None:
        return UNKNOWN
    text = signed(difference.mean)
    if difference.low is not None and difference.high is not None:
        text += f" [{signed(difference.low)}, {signed(difference.high)}]"
    if difference.excludes_zero:
        text = f"**{text}**"
    if difference.left_out or difference.low is None:
        text += f" ({difference.pairs} pair{'s' if difference.pairs > 1 else ''})"
    return text


def signed(fraction: float) -> str:
    """Return a fraction in points with its sign; values that round to zero have none."""
    text = f"{100 * fraction:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def _products(runs: Runs) -> list[str]:
    names = {name for run in runs.values() for name in run.test}
    return [*([PLAIN] if PLAIN in names else []), *selection.prefixes(names)]


def _by_methods(
    student: str,
    names: Sequence[str],
    methods: dict[str, Runs],
    network: Network | None,
    whole: Network | None,
) -> list[list[str]]:
    """Return a row for each method, the first with the INT8 accuracy; without methods, one row of costs."""
    if not names:
        return [_family_row(code(student), network, whole, {})] if network else []
    rows = []
    for place, method in enumerate(names):
        label = f"{code(student)} by {text(title(method))}"
        rows.append(_family_row(label, network, whole, test_accuracies(methods[method]), int8=place == 0))
    return rows


def _family_row(
    label: str, network: Network | None, whole: Network | None, values: dict[int, float], int8: bool = True
) -> list[str]:
    accuracy = mean_and_deviation(values.values())
    if network is None:
        return [label, *[UNKNOWN] * 5, accuracy, UNKNOWN]
    rounded = network.int8_accuracy if int8 else None
    return [
        label,
        scaled(network.parameters),
        significant(network.macs / 1e6),
        f"{network.macs / whole.macs:.2f}" if whole else UNKNOWN,
        _latency(network, whole, "fp32"),
        _latency(network, whole, "int8"),
        accuracy,
        UNKNOWN if rounded is None else f"{100 * rounded:.2f}",
    ]


def _latency(network: Network, whole: Network | None, precision: str) -> str:
    own = network.latency_ms.get(precision)
    reference = whole.latency_ms.get(precision) if whole else None
    part = f" ({own / reference:.2f})" if own is not None and reference else ""
    return significant(own) + part


def _table(head: Sequence[str], left: int, rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first ``left`` columns contain text and the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
