"""Train a student by IMF and by cross-entropy alone, for several seeds, and print the table.

Both get the same data, order, augmentation, epochs and settings; no heads are re-fitted. Finished
trainings are kept in the output folder, so a run that was cut off goes on.

    python benchmarks/imf_against_cross_entropy.py --seeds 0,1,2 --epochs 8 --output runs/imf-against-ce
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

from imf_deploy import defaults
from imf_deploy.data import DataConfig, DataSet, open_data
from imf_deploy.models import ModelSpec
from imf_deploy.strip.products import load_product
from imf_deploy.strip.stage import strip
from imf_deploy.train.distill import DistillConfig, distill, load_distilled
from imf_deploy.train.teacher import Teacher, find_teacher, train_classifier
from imf_deploy.verify.stage import evaluate_product


def one_seed(
    student: str, seed: int, epochs: int, data: DataSet, teacher: Teacher, output: Path
) -> dict[str, float]:
    """Return the test accuracy of every product of one distillation, and of cross-entropy alone."""
    config = DistillConfig(student, refit=False)
    config = replace(config, train=replace(config.train, seed=seed, epochs=epochs))
    spec = ModelSpec.for_images(student, data.preprocess.num_classes, data.preprocess.size)
    folder = output / f"{student}-seed{seed}"
    alone = train_classifier(spec, data, config.train, folder / "cross-entropy.safetensors", "student")
    distilled = load_distilled(distill(data, teacher, config, folder / "distilled.safetensors"), (student,))
    names = ["plain", *(f"imf@{k}" for k in range(1, len(distilled.blocks) + 1))]
    accuracies = {"cross-entropy": alone.evidence["accuracy"]}
    for artifact in strip(distilled, names, folder / "products"):
        product = evaluate_product(load_product(artifact.path, (student,)), data)
        accuracies[artifact.product] = product.artifact.evidence["accuracy"]
    return accuracies


def main() -> None:
    """Print a Markdown table: a row for each seed, then the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="mobilenetv2")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=defaults.EPOCHS)
    parser.add_argument("--output", type=Path, default=Path("runs/imf-against-ce"))
    options = parser.parse_args()
    data = open_data(DataConfig())
    teacher = find_teacher("", "", data, "cpu")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = {
        seed: one_seed(options.student, seed, options.epochs, data, teacher, options.output) for seed in seeds
    }
    columns = list(rows[seeds[0]])
    print(f"Teacher {teacher.spec.name}: {teacher.accuracy:.2%}\n")
    print(f"| seed | {' | '.join(columns)} |")
    print(f"|---{'|---' * len(columns)}|")
    for seed, row in rows.items():
        print(f"| {seed} | {' | '.join(f'{100 * row[name]:.2f}' for name in columns)} |")
    means = [f"{100 * mean(row[name] for row in rows.values()):.2f}" for name in columns]
    print(f"| mean | {' | '.join(means)} |")


if __name__ == "__main__":
    main()
