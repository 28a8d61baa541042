"""Two processes train as one would: over Gloo, started as ``torchrun`` starts them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import preloaded
import pytest
import torch

from imf_deploy.models import read_weights

SCRIPT = """
import hashlib, json, os, signal, sys
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)
from imf_deploy.settings import DataSettings
from imf_deploy.data import open_data
from imf_deploy.processes import rank, world_size
from imf_deploy.training import loop
from imf_deploy.settings import MonitoringSettings, TrainingSettings
from imf_deploy.training.device import choose_device
from imf_deploy.settings import DistillSettings
from imf_deploy.distillation.distill import distill
from imf_deploy.training.distributed import leave
from imf_deploy.show import bars
from imf_deploy.teaching.teacher import load_teacher

images, weights, out = map(Path, sys.argv[1:4])
fields = json.loads(sys.argv[4])
still, monitoring = fields.pop("still"), MonitoringSettings(checkpoint_minutes=fields.pop("minutes"))
student, dies = fields.pop("student", "resnet8"), fields.pop("dies", -1)
refit = fields.pop("refit", True)
# The test images serve as unlabelled ones.
unlabelled = str(images / "val") if fields.pop("unlabelled", False) else ""
data = open_data(DataSettings(str(images), unlabelled=unlabelled))
epochs = []
seen = []
states = []

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
        if len(seen) == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(images.double().sum((1, 2, 3)).tolist())
        states.append(hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest())
        return super().step(images, labels, *rest)

    def end_epoch(self):
        record = super().end_epoch()
        epochs.append([float(t.double().sum()) for t in self._module.state_dict().values()])
        return record

loop.Training = Watched
bars.install()
teacher = load_teacher(weights, "", data, choose_device("cpu"))
train = TrainingSettings(**{"batch_size": 16, "lr": 0.01, "device": "cpu", **fields})
config = DistillSettings(student=student, **vars(train), refit=refit)
made = distill(data, teacher, config, out / "d.safetensors", monitoring=monitoring)
Path(f"{out}-rank{rank()}.json").write_text(json.dumps({
    "epochs": epochs, "seen": seen, "states": states, "sha256": made.sha256,
    "history": made.history, "world": world_size(), "refitted": [vars(head) for head in made.refitted],
}))
leave()
os._exit(0)  # as the command line ends: Gloo's threads may abort the interpreter's shutdown
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
    out.mkdir(exist_ok=True)
    processes = preloaded.launch(
        [str(script), str(images), str(teacher), str(out), json.dumps(fields)], size, place
    )
    said = preloaded.read_all(processes)
    assert [process.wait() for process in processes] == [0] * size, said
    ranks = [json.loads(Path(f"{out}-rank{rank}.json").read_text()) for rank in range(size)]
    return Run(ranks, read_weights(out / "d.safetensors"), sorted(p.name for p in out.iterdir()), said)


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"ema": 0.8},
    "mixed": {"mixup": 0.4, "cutmix": 1.0, "optimizer": "sgd", "clip_grad": 1.0, "grad_accumulation": 2}
    | {"freeze": "norms", "body_lr_factor": 0.5},
    "unlabelled": {"unlabelled": True, "balance": "loss", "mixup": 0.4, "grad_accumulation": 2},
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
    assert len(whole) == (6 if recipe == "unlabelled" else 4)
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
    assert [f"imf.prefix_heads.{k}.weight" in two.weights for k in range(3)] == kept
    assert two.said.count("Heads re-fitted") == 1
    assert all(tensor.isfinite().all() for tensor in two.weights.values())


# A network with dropout: the random numbers of each process count.
CODE = """
from torch import nn

def student(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, num_classes),
    )
"""
DROPS: dict[str, Any] = {
    "student": "dropping:student", "still": False, "minutes": 0, "epochs": 3, "batch_size": 8,
    "mixup": 0.4, "ema": 0.8, "keep": "best",
}  # fmt: skip


def kill_both(images: Path, teacher: Path, place: Path, out: Path, dies: int) -> list[int]:
    """Distil in two processes that are killed before step ``dies``, counted from 0; return how each ended."""
    fields = json.dumps(DROPS | {"dies": dies})
    command = [str(place / "script.py"), str(images), str(teacher), str(out), fields]
    processes = preloaded.launch(command, 2, place)
    for process in processes:
        process.stderr.close()
    return [process.wait() for process in processes]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_two_killed_processes_go_on(image_folder: Path, teacher_file: Path, tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dropping.py").write_text(CODE)
    whole = train(image_folder, teacher_file, tmp_path / "whole", 2, **DROPS)
    assert len(whole.ranks[0]["seen"]) == 3 * 5
    place = tmp_path / "cut"
    (place / "script.py").write_text(SCRIPT)
    out = place / "out2"
    out.mkdir()
    for dies in (2, 5):  # before the third step of the first epoch, and of the second
        assert kill_both(image_folder, teacher_file, place, out, dies) == [-signal.SIGKILL] * 2
        assert [p.name for p in out.iterdir()] == ["d.checkpoint"]
    cut = train(image_folder, teacher_file, place, 2, **DROPS)
    assert "resuming after epoch 1 of 3, 2 of 5 steps into the next" in cut.said
    for mine, its in zip(cut.ranks, whole.ranks, strict=True):
        assert (mine["seen"], mine["states"]) == (its["seen"][7:], its["states"][7:])
        assert mine["epochs"][-1] == its["epochs"][-1]
        assert mine["sha256"] == its["sha256"]
        for a, b in zip(mine["history"], its["history"], strict=True):
            assert a == pytest.approx(b, rel=1e-5)  # the processes' sums are added earlier
    # Dropout differs between the processes.
    assert not {*whole.ranks[0]["states"]} & {*whole.ranks[1]["states"]}
    assert cut.files == whole.files
    for name, tensor in whole.weights.items():
        assert torch.equal(cut.weights[name], tensor), name


def test_accelerate_s_launcher_starts_both_and_one_writes(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    # On CPUs too: with --cpu it would start one process.
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = ["-m", "imf_deploy", "distill", "--data", str(image_folder), "--teacher-weights",
               str(teacher_file), "--student", "resnet8", "--epochs", "1", "--batch-size", "16",
               "--device", "cpu", "--output", "run"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *launcher, "--log_dir", "logs", "--tee", "3", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path)},  # no one's settings
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = ("".join(p.read_text() for p in tmp_path.glob(f"logs/*/*/{r}/*.log")) for r in range(2))
    assert "epoch 1 of 1" in first
    assert second == ""
    assert len(list(tmp_path.glob("logs/*/*/1/stderr.log"))) == 1  # it was there
    made = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert made == ["config.yaml", "distilled.safetensors", "distilled.safetensors.json"]
