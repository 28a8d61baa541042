from __future__ import annotations

from dataclasses import replace

import pytest

from imf_deploy.study.results import Network, Trained
from imf_deploy.study.tables import INTERVAL_NOTE, ablation_table, family_table, methods_table

STUDENT = "cifar:net"

METHODS = """\
| Method | Product | Test % | Against KD (points) | Against cross-entropy (points) | Seeds | CPU time / KD |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| cross-entropy | `plain` | 80.00 ± 0.00 | -1.60 [-9.22, +6.02] (2 pairs) | – | 2 | 0.50× |
| KD | `plain` | 82.00 ± 0.92 | – | +1.60 [-6.02, +9.22] (2 pairs) | 3 | 1.00× |
| DKD | `plain` | 81.00 | -1.20 (1 pair) | +1.00 (1 pair) | 1 | 1.05× |
| IMF | `plain` | 83.00 ± 1.00 | **+1.00 [+0.50, +1.50]** | +2.50 [-3.85, +8.85] (2 pairs) | 3 | 1.20× |
| IMF | `imf@1` | 81.00 ± 2.00 | -1.00 [-3.77, +1.77] | 0.00 [-12.71, +12.71] (2 pairs) | 3 | 1.20× |
| IMF | `imf@2` | 83.50 ± 0.50 | **+1.50 [+0.42, +2.58]** | **+3.25 [+0.07, +6.43]** (2 pairs) | 3 | 1.20× |
"""

FAMILY = """\
| Network | Parameters | MACs (M) | MACs / full | fp32 ms (/ full) | INT8 ms (/ full) | Test % | INT8 test % |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| `imf@1` | 50.0 k | 10.0 | 0.25 | 0.500 (0.25) | 0.300 (0.30) | 81.00 ± 2.00 | 80.50 |
| `imf@2` | 1.12 M | 30.0 | 0.75 | 1.50 (0.75) | – | 83.50 ± 0.50 | – |
| `cifar:net` by IMF | 2.24 M | 40.0 | 1.00 | 2.00 (1.00) | 1.00 (1.00) | 83.00 ± 1.00 | 81.50 |
| `cifar:net` by KD | 2.24 M | 40.0 | 1.00 | 2.00 (1.00) | 1.00 (1.00) | 82.00 ± 0.92 | – |
| `cifar:net` by cross-entropy | 2.24 M | 40.0 | 1.00 | 2.00 (1.00) | 1.00 (1.00) | 80.00 ± 0.00 | – |
| `cifar:thin` by KD | 90.0 k | 12.0 | 0.30 | 0.600 (0.30) | – | 79.67 ± 0.58 | – |
| `cifar:thin` by cross-entropy | 90.0 k | 12.0 | 0.30 | 0.600 (0.30) | – | 77.00 | – |
| `cifar:thinnest` by KD | 9.00 k | 2.00 | 0.05 | 0.100 (0.05) | – | 70.00 | – |
"""

ABLATION = """\
| Variant | Seeds | `plain` % | `imf@1` % | `imf@2` % | `plain` against default (points) | `imf@2` against default (points) |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| default | 2 | 81.50 ± 0.71 | 70.00 ± 0.00 | 84.00 ± 1.41 | – | – |
| alpha=5 | 2 | 80.45 ± 0.64 | 70.00 ± 0.00 | 83.00 ± 0.00 | **-1.05 [-1.69, -0.41]** | -1.00 [-13.71, +11.71] |
| alpha=20 | 2 | 80.50 ± 0.71 | 70.00 ± 0.00 | – | -1.00 (2 pairs) | – |
| one \\| branch | 1 | 90.00 | – | – | +9.00 (1 pair) | – |
"""  # noqa: E501


def table(markdown: str) -> str:
    """Return the table alone, without the notes below it."""
    return markdown.split("\n\n", maxsplit=1)[0] + "\n"


def variant(name: str, seed: int, **products: float) -> Trained:
    validation = {key.replace("imf", "imf@"): value / 100 for key, value in products.items()}
    return Trained(STUDENT, "imf", name, seed, 8, validation, {}, 1.0)


def test_methods(trained: list[Trained]) -> None:
    told = methods_table(trained, STUDENT)
    assert table(told) == METHODS
    assert INTERVAL_NOTE in told
    assert methods_table(trained[::-1], STUDENT) == told, "the order of the trainings decides nothing"


def test_a_method_without_rivals_has_no_differences(trained: list[Trained]) -> None:
    alone = methods_table([run for run in trained if run.method == "dkd"], STUDENT)
    assert alone.splitlines()[2] == "| DKD | `plain` | 81.00 | – | – | 1 | – |"


def test_times_of_trainings_that_were_cut_off_are_left_out(trained: list[Trained]) -> None:
    cut = [replace(run, cpu_seconds=None) if run.method == "kd" and run.seed == 1 else run for run in trained]
    times = {
        row.split(" | ")[0]: row.split(" | ")[-1] for row in methods_table(cut, STUDENT).splitlines()[2:8]
    }
    # IMF: 12 / 10 and 33 / 30; DKD's only partner is the one that was cut off.
    assert times == {"| cross-entropy": "0.50× |", "| KD": "1.00× |", "| DKD": "– |", "| IMF": "1.15× |"}


def test_two_budgets_in_one_table_are_refused(trained: list[Trained]) -> None:
    longer = [replace(run, epochs=16) for run in trained if run.method == "kd"]
    with pytest.raises(ValueError, match="cifar:net by kd have the seed 0: compare one budget at a time"):
        methods_table(trained + longer, STUDENT)


def test_ablation_is_on_validation_and_sorted_by_number() -> None:
    runs = [
        variant("one | branch", 0, plain=90),
        variant("alpha=20", 0, plain=80, imf1=70),
        variant("alpha=20", 1, plain=81, imf1=70),
        variant("alpha=5", 0, plain=80.0, imf1=70, imf2=83),
        variant("alpha=5", 1, plain=80.9, imf1=70, imf2=83),
        variant("", 1, plain=82, imf1=70, imf2=85),
        variant("", 0, plain=81, imf1=70, imf2=83),
    ]
    told = ablation_table(runs, STUDENT)
    assert table(told) == ABLATION.replace("\\|", "&#124;")
    assert "on the validation split" in told
    assert "test images" not in told
    assert "one in twenty is expected in bold" in told, "many comparisons"


def test_ablation_leaves_other_methods_and_students_out(trained: list[Trained]) -> None:
    rows = ablation_table(trained, STUDENT).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:4]] == ["| default", "| alpha=0"]
    assert rows[4] == ""
    assert "expected in bold" not in rows[5]


def test_family(trained: list[Trained], networks: list[Network]) -> None:
    told = family_table(trained, networks, STUDENT, ["cifar:thinnest", "cifar:thin"])
    assert table(told) == FAMILY


def test_int8_accuracy_of_a_thinner_student_is_on_one_row(
    trained: list[Trained], networks: list[Network]
) -> None:
    networks[3] = replace(networks[3], int8_accuracy=0.79)
    rows = family_table(trained, networks, STUDENT, ["cifar:thin"]).splitlines()
    cells = {row.split(" | ")[0]: row.split(" | ")[-1] for row in rows if "thin" in row}
    assert cells == {"| `cifar:thin` by KD": "79.00 |", "| `cifar:thin` by cross-entropy": "– |"}


def test_family_tells_what_is_not_known(trained: list[Trained], networks: list[Network]) -> None:
    unmeasured = [replace(n, latency_ms={}) for n in networks if n.product == "imf@1"]
    rows = family_table(trained, unmeasured, STUDENT, ["cifar:thin", "never-heard-of"]).splitlines()
    assert rows[2] == "| `imf@1` | 50.0 k | 10.0 | – | – | – | 81.00 ± 2.00 | 80.50 |"
    assert rows[3] == "| `imf@2` | – | – | – | – | – | 83.50 ± 0.50 | – |"
    assert rows[7] == "| `cifar:thin` by KD | – | – | – | – | – | 79.67 ± 0.58 | – |"
    assert not any("never-heard-of" in row for row in rows)


def test_costs_without_a_training_are_still_shown(networks: list[Network]) -> None:
    rows = family_table([], networks, STUDENT).splitlines()
    assert rows[2] == "| `imf@1` | 50.0 k | 10.0 | 0.25 | 0.500 (0.25) | 0.300 (0.30) | – | 80.50 |"
    assert rows[4] == "| `cifar:net` | 2.24 M | 40.0 | 1.00 | 2.00 (1.00) | 1.00 (1.00) | – | 81.50 |"
