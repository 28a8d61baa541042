"""Selection and order of the trainings and networks of a study for tables, goals and figures."""

import re
from collections.abc import Iterable, Mapping, Sequence

from imf_deploy.method.names import PLAIN, find_blocks_kept
from imf_deploy.study.results import Network, Trained

TITLES = {
    "ce": "cross-entropy",
    "kd": "KD",
    "fitnet": "FitNet",
    "crd": "CRD",
    "reviewkd": "ReviewKD",
    "dkd": "DKD",
    "dist": "DIST",
    "mlkd": "MLKD",
    "kd-ls": "KD with LS",
    "mlkd-ls": "MLKD with LS",
    "imf": "IMF",
}
"""Display names of the methods, in the order of the tables; other methods follow."""

Runs = dict[int, Trained]
"""Trainings that differ only in the seed, by seed."""


def title(method: str) -> str:
    """Return the display name of a method."""
    return TITLES.get(method, method)


def in_order(methods: Iterable[str]) -> list[str]:
    """Return the different methods in the order of the tables."""
    known = list(TITLES)
    return sorted(set(methods), key=lambda name: (known.index(name) if name in known else len(known), name))


def runs_of(trained: Iterable[Trained], student: str, method: str, variant: str = "") -> Runs:
    """Return the trainings of one kind by seed.

    Raises:
        ValueError: two of them have the same seed, such as trainings of different epochs.
    """
    runs: Runs = {}
    for run in trained:
        if (run.student, run.method, run.variant) != (student, method, variant):
            continue
        if run.seed in runs:
            kind = f"{student} by {method}" + (f", {variant}" if variant else "")
            raise ValueError(
                f"two trainings of {kind} have the seed {run.seed}: compare one budget at a time"
            )
        runs[run.seed] = run
    return runs


def tested(trained: Iterable[Trained], student: str) -> dict[str, Runs]:
    """Return the trainings with the methods' own settings that were tested, by method, in order."""
    chosen = [run for run in trained if run.student == student and not run.variant and run.test]
    return {method: runs_of(chosen, student, method) for method in in_order(run.method for run in chosen)}


def test_accuracies(runs: Mapping[int, Trained], product: str = PLAIN) -> dict[int, float]:
    """Return the accuracies (0 to 1) of a product on the test split, by seed."""
    return {seed: run.test[product] for seed, run in runs.items() if product in run.test}


def validation_accuracies(runs: Mapping[int, Trained], product: str = PLAIN) -> dict[int, float]:
    """Return the accuracies (0 to 1) of a product on the validation split, by seed."""
    return {seed: run.validation[product] for seed, run in runs.items() if product in run.validation}


def cpu_seconds(runs: Mapping[int, Trained]) -> dict[int, float]:
    """Return the processor times of the trainings in seconds, by seed, if they were measured."""
    return {seed: run.cpu_seconds for seed, run in runs.items() if run.cpu_seconds is not None}


def prefixes(products: Iterable[str]) -> list[str]:
    """Return the different ``imf@k`` among products, the smallest k first."""
    by_length = {kept: name for name in products if (kept := find_blocks_kept(name))}
    return [by_length[k] for k in sorted(by_length)]


def by_product(networks: Iterable[Network], student: str) -> dict[str, Network]:
    """Return the networks of one architecture by product."""
    return {network.product: network for network in networks if network.student == student}


def variant_order(variant: str) -> list[tuple[str, float]]:
    """Return a key that sorts variants in natural order, the default (empty) first.

    ``alpha 5, beta 10`` comes before ``alpha 20, beta 10``.
    """
    parts = re.split(r"(\d+)", variant)
    return [("", float(part)) if part.isdecimal() else (part, 0.0) for part in parts]


def most_accurate(methods: Sequence[str], runs: Mapping[str, Runs]) -> str | None:
    """Return the method whose plain students are the most accurate on the validation split.

    The test split must not choose what it then evaluates. Of equal methods the first is returned.
    """
    means = {}
    for method in methods:
        if values := validation_accuracies(runs[method]).values():
            means[method] = sum(values) / len(values)
    return max(means, key=lambda method: means[method]) if means else None
