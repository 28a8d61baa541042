"""Compare settings for trainings that start from pretrained weights, on validation images only.

Finished trainings are kept in OUTPUT, so that the same command resumes an interrupted search. Each setting is
a word: values by the names of the fields, separated by commas, such as lr=0.02,body_lr_factor=0.25.

The images are of five classes of CIFAR-10, and others than those of benchmarks/pretrained.py. The weights are
what benchmarks/efficientnet_lite.py writes, and PACKAGE is that of benchmarks/cifar10_folder.py.

    python benchmarks/fine_tuning_search.py teacher PACKAGE WEIGHTS OUTPUT lr=0.02 lr=0.05,ema=0.99
    python benchmarks/fine_tuning_search.py student PACKAGE WEIGHTS OUTPUT --teacher TEACHER alpha=10
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from imf_deploy.data import DataSet, open_data
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation.distill import run_distillation
from imf_deploy.models import ModelSpec, build_model, save_weights
from imf_deploy.settings import DataSettings, DistillSettings, MonitoringSettings, TeacherSettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.loop import fit
from imf_deploy.training.supervised import Supervised

CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
IMAGES = {"train": (3, 100), "val": (4, 300), "test": (4, 4)}
"""Training batch of CIFAR-10 and images a class for each split; those for testing are not used."""
SIDE, BATCH = 64, 10_000
NETWORK = "timm:tf_efficientnet_lite0"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
CPU = torch.device("cpu")
STILL = MonitoringSettings(teacher_outputs_gb=0.0)
Values = dict[str, Any]


def settings(word: str) -> Values:
    """Return the values that a word sets; ``start`` sets none."""
    pairs = (part.partition("=") for part in word.split(",") if part != "start")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def write_images(package: Path, folder: Path) -> None:
    """Write images as ``FOLDER/SPLIT/CLASS/NUMBER.png``, scaled to 64 pixels by way of 96."""
    # The misspelling is the package's own.
    training = json.loads((package / "train_lables.json").read_text())
    for split, (batch, count) in IMAGES.items():
        rows = np.asarray(Image.open(package / f"data_batch_{batch}.png").convert("RGB"))
        labels = np.asarray(training[(batch - 1) * BATCH : batch * BATCH])
        for label, title in enumerate(CLASSES):
            place = folder / split / title
            place.mkdir(parents=True, exist_ok=True)
            for number in np.flatnonzero(labels == label)[:count]:
                image = Image.fromarray(rows[number].reshape(32, 32, 3))
                for side in (96, SIDE):
                    image = image.resize((side, side), Image.Resampling.BICUBIC)
                image.save(place / f"{number:05}.png")


def started(spec: ModelSpec, weights: Path, seed: int) -> nn.Module:
    """Return the network with given weights; its head is fresh if it has another shape."""
    torch.manual_seed(seed)
    network = build_model(spec)
    state = network.state_dict()
    tensors = {n: t for n, t in load_file(weights).items() if t.shape == state[n].shape}
    network.load_state_dict({**state, **tensors})
    return network


def teach(data: DataSet, options: argparse.Namespace, seed: int, values: Values) -> dict[str, float]:
    """Fine-tune the network by cross-entropy; return its validation accuracy."""
    config = TeacherSettings(
        **{"teacher": NETWORK, "teacher_weights": "given", "device": "cpu", "seed": seed, **values}
    )
    spec = ModelSpec.for_images(NETWORK, data.preprocess.num_classes, data.preprocess.shape)
    task = Supervised(started(spec, options.weights, seed), config.label_smoothing)
    fit(task, without_validation(data), config, "Teacher", None, {}, monitoring=STILL)
    save_weights(options.output / "last-teacher.safetensors", task.module.state_dict())
    return {"plain": accuracy_of(task.predict, data.validation, data.preprocess, CPU)}


def distil(data: DataSet, options: argparse.Namespace, seed: int, values: Values) -> dict[str, float]:
    """Distil the network into itself, from given weights; return the validation accuracy of each product."""
    config = DistillSettings(
        **{"student": NETWORK, "student_weights": "given", "device": "cpu", "seed": seed, **values}
    )
    spec = ModelSpec.for_images(NETWORK, data.preprocess.num_classes, data.preprocess.shape)
    module = started(spec, options.teacher, seed).eval().requires_grad_(False)
    student = started(spec, options.weights, seed)
    teacher = Teacher(module, spec, "", None)
    run = run_distillation(
        spec, teacher, without_validation(data), config, None, {}, monitoring=STILL, student=student
    )
    heads = run.finish(data)["refitted"]
    before = {f"{head.head} before the re-fit": head.before for head in heads}
    graph = run.graph.eval()

    def products(images: Tensor) -> Tensor:
        logits, branches = graph(images)
        return torch.stack([logits, *branches.attentive])

    names = ["plain", *(f"imf@{k}" for k in range(1, graph.imf.members + 1))]
    return before | {
        name: accuracy_of(lambda images, n=n: products(images)[n], data.validation, data.preprocess, CPU)
        for n, name in enumerate(names)
    }


def without_validation(data: DataSet) -> DataSet:
    """Return the data without validation images, so that epochs do not take time for them."""
    return replace(data, validation=data.validation.subset(torch.arange(0)))


def main() -> None:
    """Run the trainings that are missing, and print the accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["teacher", "student"])
    parser.add_argument("package", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--teacher", type=Path, help="weights of the students' teacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not (folder := options.output / "images").exists():
        write_images(options.package, folder)
    data = open_data(DataSettings(str(folder), image_size=SIDE, mean=MEAN, std=STD))
    train = teach if options.what == "teacher" else distil
    for word in options.settings:
        for seed in options.seeds:
            path = options.output / f"{options.what}-{word}-seed{seed}.json"
            if not path.exists():
                began = time.process_time()
                result = train(data, options, seed, settings(word))
                path.write_text(json.dumps({**result, "seconds": round(time.process_time() - began)}))
            print(path.stem, path.read_text(), flush=True)


if __name__ == "__main__":
    main()
