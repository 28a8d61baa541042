"""A process that is killed while it writes, or whenever, and started again: the same bytes at the end."""

import json
import os
import signal
from pathlib import Path

import preloaded
import pytest

# Dropout in the student, an average, and a teacher whose words are kept: all of it has to come back.
STUDENT = "dropping:student"
FIELDS = {"epochs": 3, "batch_size": 8, "lr": 0.02, "augment": "none", "ema": 0.8, "device": "cpu"}
CODE = """
from torch import nn

def student(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, num_classes),
    )
"""

# What is imported and opened once is forked for every start, which would take seconds each.
SCRIPT = """
import json, os, signal, sys, time, traceback
from pathlib import Path

import accelerate, torch, torch._dynamo, torch.fx  # else each start imports them

torch.set_num_threads(1)
from imf_deploy.settings import DataSettings
from imf_deploy.data import open_data
from imf_deploy.settings import MonitoringSettings, TrainingSettings
from imf_deploy.training.device import choose_device
from imf_deploy.settings import DistillSettings
from imf_deploy.distillation.distill import distill
from imf_deploy.teaching.teacher import load_teacher

images, weights = map(Path, sys.argv[1:3])
student, fields, kills = map(json.loads, sys.argv[3:6])
data = open_data(DataSettings(str(images)))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def arm(name, nth, place):
    \"\"\"Be killed at the nth time that a file of this name is about to be put in its place.\"\"\"
    put, seen = Path.replace, []
    def replace(self, target):
        if Path(target).name == name:
            seen.append(name)
            if len(seen) == nth:
                if place == "in the write":
                    os.truncate(self, self.stat().st_size // 2)
                if place == "after":
                    put(self, target)
                die()
        return put(self, target)
    Path.replace = replace

def start(kill, out):
    child = os.fork()
    if child:
        if isinstance(kill, float):  # at any time at all
            time.sleep(kill)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    try:
        if isinstance(kill, list):
            arm(*kill)
        teacher = load_teacher(weights, "", data, choose_device("cpu"))
        config = DistillSettings(student=student, **fields)
        often = MonitoringSettings(checkpoint_minutes=0)
        distill(data, teacher, config, Path(out) / "d.safetensors", monitoring=often)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

ended = [start(None, "whole"), *(start(kill, "cut") for kill in kills)]
print(json.dumps([-os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code) for code in ended]))
"""


def end_of(images: Path, teacher: Path, place: Path, kills: list[object]) -> list[int]:
    """Start a distillation over and over; return how each one ended, when the last has ended as it must.

    Another, in another folder, is left alone: the two files have to be the same.
    """
    (place / "script.py").write_text(SCRIPT)
    (place / "dropping.py").write_text(CODE)
    done = preloaded.run(
        ["script.py", str(images), str(teacher), *map(json.dumps, (STUDENT, FIELDS, kills))],
        cwd=place,
        timeout=600,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    alone, *ended = json.loads(done.stdout)
    assert alone == ended[-1] == 0, done.stderr
    made, whole = (place / folder / "d.safetensors" for folder in ("cut", "whole"))
    assert made.read_bytes() == whole.read_bytes()
    records = [json.loads(Path(f"{path}.json").read_text()) for path in (made, whole)]
    assert records[0]["history"] == records[1]["history"]
    names = [path.name for path in (place / "cut").iterdir() if not path.name.startswith(".tmp-")]
    assert sorted(names) == ["d.safetensors", "d.safetensors.json"]
    return ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system call")
def test_killed_while_it_writes(image_folder: Path, teacher_file: Path, tmp_path: Path) -> None:
    kills = [
        ["d.checkpoint", 1, "in the write"],  # there is none yet
        ["d.checkpoint", 2, "before"],
        ["d.checkpoint", 3, "in the write"],
        ["d.checkpoint", 2, "after"],
        ["d.checkpoint", 3, "before"],
        ["d.checkpoint", 4, "after"],
        ["d.safetensors", 1, "in the write"],
        ["d.safetensors", 1, "after"],
        ["d.safetensors.json", 1, "in the write"],
        ["d.safetensors.json", 1, "after"],
    ]
    ended = end_of(image_folder, teacher_file, tmp_path, [*kills, None])
    assert ended == [-signal.SIGKILL] * len(kills) + [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system call")
def test_killed_at_any_time(image_folder: Path, teacher_file: Path, tmp_path: Path) -> None:
    # How far it comes in this time depends on the machine; what it ends with must not.
    ended = end_of(image_folder, teacher_file, tmp_path, [0.05, 0.13, 0.21, 0.34, 0.55, 0.89, 1.44, None])
    assert set(ended) <= {-signal.SIGKILL, 0}
