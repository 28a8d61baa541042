"""Few labels, and rare classes: accuracy with ``--unlabelled`` and with ``--balance`` on the embedded data.

Few labels: students learn from 500 labelled images; from these and the other 8,500 without labels; and from
all 9,000 with labels. All take the same number of steps. Rare classes: class ``c`` of ten keeps
``900 * 0.01 ** (c / 9)`` training images, from 900 to 9. The test images have equal numbers of all classes,
so that the accuracy is the balanced one. The teacher is the packaged one, which was trained on all images
with their labels.

    python benchmarks/scarce_labels.py --seeds 3
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean, stdev

import torch

import imf_deploy
from imf_deploy.data import DataSet, Split, open_data
from imf_deploy.data.choice import choose_images
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.settings import DataSettings, DistillSettings, MonitoringSettings
from imf_deploy.settings.training import Balance

LABELLED = 500
BALANCES: tuple[Balance, ...] = ("none", "sampling", "loss")


def remaining(split: Split, chosen: Split) -> Split:
    """Return the images of a split that are not in a part of it."""
    others = ~torch.isin(split.positions, chosen.positions)
    return split.subset(others.nonzero().flatten())


def uneven(split: Split, seed: int) -> Split:
    """Return a part of a split with 900 to 9 images of each class."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for number in range(10):
        members = (split.labels == number).nonzero().flatten()
        count = round(900 * 0.01 ** (number / 9))
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return split.subset(torch.cat(kept).sort().values)


def cases(data: DataSet, epochs: int, seed: int) -> Iterator[tuple[str, DataSet, DistillSettings]]:
    """Yield every student: what it learns from, and how."""
    config = DistillSettings(student="resnet8", epochs=epochs, seed=seed, device="cpu")
    few = choose_images(data.train, LABELLED, seed)
    longer = epochs * (len(data.train) // config.batch_size) // (LABELLED // config.batch_size)
    yield f"{LABELLED} labelled", replace(data, train=few), replace(config, epochs=longer)
    more = replace(data, train=few, unlabelled=remaining(data.train, few))
    yield f"{LABELLED} labelled, {len(data.train) - LABELLED:,} without labels", more, config
    yield f"{len(data.train):,} labelled", data, config
    rare = replace(data, train=uneven(data.train, seed))
    longer = epochs * len(data.train) // len(rare.train)
    alone = replace(config, alpha=0.0, beta=0.0)
    for terms, own in (("IMF", config), ("cross-entropy alone", alone)):
        for balance in BALANCES:
            its = replace(own, epochs=longer, balance=balance)
            yield f"900 to 9 of each class, {terms}, `--balance {balance}`", rare, its


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="passes over the 9,000 images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(DataSettings())
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name, given, config in cases(data, options.epochs, seed):
            made = imf_deploy.distill(
                config.student, "", given, settings=config, monitoring=MonitoringSettings()
            )
            student = made.graph.student.eval()
            accuracy = accuracy_of(student, data.test, data.preprocess, torch.device("cpu"))
            found.setdefault(name, []).append(100 * accuracy)
            print(f"seed {seed}, {name}: {100 * accuracy:.2f} %", flush=True)
    print("\n| training images | test accuracy, % | seeds |\n|---|---|---|")
    for name, values in found.items():
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {name} | {mean(values):.1f}{spread} | {len(values)} |")


if __name__ == "__main__":
    main()
