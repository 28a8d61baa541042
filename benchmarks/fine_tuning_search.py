"""Compare settings for trainings that start from pretrained weights, on validation images only.

Finished trainings are kept in OUTPUT, so that the same command resumes an interrupted search. Each setting is
a word: values by the names of the fields, separated by commas, such as lr=0.02,body_lr_factor=0.25.

    python benchmarks/fine_tuning_search.py teacher DATA WEIGHTS OUTPUT lr=0.02 lr=0.05,ema=0.99
    python benchmarks/fine_tuning_search.py student DATA WEIGHTS OUTPUT --teacher TEACHER alpha=10
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from imf_deploy.data import DataSet, open_data
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DataSettings, MonitoringSettings, TeacherSettings
from imf_deploy.training.loop import fit
from imf_deploy.training.supervised import Supervised

NETWORK = "timm:tf_efficientnet_lite0"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
CPU = torch.device("cpu")
STILL = MonitoringSettings(teacher_outputs_gb=0.0)


def settings(word: str) -> dict[str, Any]:
    """Return the values that a word sets; ``start`` alone sets none."""
    pairs = (part.partition("=") for part in word.split(",") if part != "start")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def started(spec: ModelSpec, weights: Path, seed: int) -> nn.Module:
    """Return a network with ImageNet weights and a fresh head."""
    torch.manual_seed(seed)
    network = build_model(spec)
    state = network.state_dict()
    tensors = {n: t for n, t in load_file(weights).items() if n in state and t.shape == state[n].shape}
    network.load_state_dict({**state, **tensors})
    return network


def teach(data: DataSet, weights: Path, seed: int, values: dict[str, Any], path: Path) -> dict[str, float]:
    """Fine-tune the network by cross-entropy; return its validation accuracy."""
    config = TeacherSettings(**{"teacher": NETWORK, "device": "cpu", "seed": seed, **values})
    spec = ModelSpec.for_images(NETWORK, data.preprocess.num_classes, data.preprocess.shape)
    task = Supervised(started(spec, weights, seed), config.label_smoothing)
    history = fit(task, data, config, "Teacher", None, {}, monitoring=STILL)
    torch.save(task.module.state_dict(), path)
    return {"validation": history[-1]["validation_accuracy"]}


def main() -> None:
    """Run the trainings that are missing, and print the accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["teacher", "student"])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--teacher", type=Path, help="what a search of teachers wrote")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    data = open_data(DataSettings(str(options.data)))
    data = replace(data, preprocess=replace(data.preprocess, mean=MEAN, std=STD))
    for word in options.settings:
        for seed in options.seeds:
            path = options.output / f"{options.what}-{word}-seed{seed}.json"
            if not path.exists():
                began = time.process_time()
                result = teach(data, options.weights, seed, settings(word), path.with_suffix(".pt"))
                path.write_text(json.dumps({**result, "seconds": time.process_time() - began}))
            print(path.stem, path.read_text(), flush=True)


if __name__ == "__main__":
    main()
