"""Two processes train as one would: started by ``torchrun``, over Gloo."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.models import read_weights

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)
from imf_deploy.data import DataConfig, open_data
from imf_deploy.processes import rank, world_size
from imf_deploy.train import loop
from imf_deploy.train.config import Monitoring, TrainConfig, choose_device
from imf_deploy.train.distill import DistillConfig, distill
from imf_deploy.train.distributed import leave
from imf_deploy.train.teacher import load_teacher

images, weights, out = map(Path, sys.argv[1:4])
fields = json.loads(sys.argv[4])
still, monitoring = fields.pop("still"), Monitoring(fields.pop("minutes"))
refit = fields.pop("refit")
data = open_data(DataConfig(str(images)))
epochs = []
seen = []

class Watched(loop.Training):
    def __init__(self, task, *rest):
        if still:  # batch norm keeps its statistics, as when fine-tuning
            train = task.module.train
            def stand_still(mode=True):
                train(mode)
                for module in task.module.modules():
                    if isinstance(module, torch.nn.BatchNorm2d):
                        module.eval()
                return task.module
            task.module.train = stand_still
        super().__init__(task, *rest)

    def step(self, images, labels, *rest):
        seen.append(images.double().sum((1, 2, 3)).tolist())
        return super().step(images, labels, *rest)

    def end_epoch(self):
        record = super().end_epoch()
        epochs.append([float(t.double().sum()) for t in self._module.state_dict().values()])
        return record

loop.Training = Watched
teacher = load_teacher(weights, "", data, choose_device("cpu"))
train = TrainConfig(batch_size=16, lr=0.01, device="cpu", **fields)
made = distill(data, teacher, DistillConfig("resnet8", train=train, refit=refit), out / "d.safetensors",
               monitoring=monitoring)
Path(f"{out}-rank{rank()}.json").write_text(json.dumps({
    "epochs": epochs, "seen": seen, "sha256": made.sha256, "history": made.evidence["history"],
    "world": world_size(), "refitted": made.evidence["refitted"],
}))
leave()
"""


@dataclass(frozen=True)
class Run:
    """What the processes of one training said and wrote."""

    ranks: list[dict[str, Any]]
    weights: dict[str, torch.Tensor]
    files: list[str]
    said: str


def train(images: Path, teacher: Path, place: Path, size: int, **fields: Any) -> Run:
    """Distil in ``size`` processes."""
    script = place / "script.py"
    script.write_text(SCRIPT)
    out = place / f"out{size}"
    out.mkdir()
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)] if size > 1 else []
    )
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(images), str(teacher), str(out), json.dumps(fields)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(Path(f"{out}-rank{rank}.json").read_text()) for rank in range(size)]
    return Run(ranks, read_weights(out / "d.safetensors"), sorted(p.name for p in out.iterdir()), done.stderr)


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"ema": 0.8},
    "mixed": {"mixup": 0.4, "cutmix": 1.0, "optimizer": "sgd", "clip_grad": 1.0, "grad_accumulation": 2},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_end_where_one_does(
    image_folder: Path, teacher_file: Path, tmp_path: Path, recipe: str
) -> None:
    # Fitting heads again, a hundred iterations, would make more of differences in rounding.
    fields = {"epochs": 2, "still": True, "minutes": 0, "refit": False} | RECIPES[recipe]
    two = train(image_folder, teacher_file, tmp_path, 2, **fields)
    one = train(image_folder, teacher_file, tmp_path, 1, **fields)
    first, second = two.ranks
    assert (first["world"], one.ranks[0]["world"]) == (2, 1)
    assert first["epochs"] == second["epochs"]
    assert first["sha256"] == second["sha256"]
    # Together the two saw every image of every batch, once.
    whole = one.ranks[0]["seen"]
    assert len(whole) == 4
    if recipe == "sgd":
        for batch, mine, other in zip(whole, first["seen"], second["seen"], strict=True):
            assert mine + other == pytest.approx(batch, rel=1e-6)
    for name, tensor in one.weights.items():
        assert torch.allclose(two.weights[name], tensor, rtol=1e-3, atol=2e-5), name
    for a, b in zip(first["history"], one.ranks[0]["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    # The first process alone writes and speaks.
    assert two.files == one.files == ["d.safetensors", "d.safetensors.json"]
    assert two.said.count("epoch 1 of 2") == two.said.count("epoch 2 of 2") == 1


def test_with_batch_norm_of_their_own_they_stay_the_same(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    two = train(
        image_folder,
        teacher_file,
        tmp_path,
        2,
        epochs=2,
        still=False,
        minutes=60,
        refit=True,
        ema=0.9,
        keep="best",
        optimizer="adamw",
    )
    first, second = two.ranks
    assert first["epochs"] == second["epochs"]
    assert first["history"] == second["history"]
    # The first process fits heads again, and the other waits for what it made.
    assert first["refitted"] == second["refitted"]
    assert first["sha256"] == second["sha256"]
    assert [record["head"] for record in first["refitted"]] == ["plain", "imf@1", "imf@2", "imf@3"]
    kept = [record["kept"] for record in first["refitted"][1:]]
    assert two.weights["imf.refitted"].tolist() == kept
    assert two.said.count("Heads re-fitted") == 1
    assert all(tensor.isfinite().all() for tensor in two.weights.values())
