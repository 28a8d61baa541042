"""Trainings share a teacher's outputs for a batch, and the results do not change."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.models import read_weights
from imf_deploy.settings import TrainingSettings
from imf_deploy.study.run import Run, train
from imf_deploy.teacher_memory import memory as teacher_memory
from imf_deploy.teacher_memory.memory import TeacherMemory
from imf_deploy.teaching.teacher import Teacher

BASE = TrainingSettings(epochs=2, batch_size=16, lr=0.02, device="cpu")
KD = {"beta": 20.0, "temperature": 4.0}


class Asked:
    """A teacher of random numbers that counts how often it is asked, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.times = 0
        self.seconds = seconds
        self.tensors = [torch.randn(4, 3), torch.randn(4, 5, 2, 2).to(memory_format=torch.channels_last)]

    def __call__(self) -> list[Tensor]:
        self.times += 1
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            pass
        return self.tensors


def images(seed: int = 0) -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_it_says_the_same_again(tmp_path: Path) -> None:
    ask, names = Asked(), ["logits", "layer3"]
    memory = TeacherMemory(tmp_path / "m", "a", 1e9)
    first = memory.get(images(), names, ask)
    again = TeacherMemory(tmp_path / "m", "a", 1e9).get(images(), names, ask)
    assert ask.times == 1
    for tensors in (first, again):
        for ours, its in zip(tensors, ask.tensors, strict=True):
            assert torch.equal(ours, its)
            assert ours.stride() == its.stride()
    # A part of it is enough, whatever layout the pixels have.
    (logits,) = memory.get(images().to(memory_format=torch.channels_last), ["logits"], ask)
    assert ask.times == 1
    assert torch.equal(logits, ask.tensors[0])


@pytest.mark.parametrize("other", ["pixels", "teacher", "threads", "name"])
def test_what_else_decides_is_asked_anew(tmp_path: Path, other: str) -> None:
    ask = Asked()
    TeacherMemory(tmp_path, "a", 1e9).get(images(), ["logits", "x"], ask)
    memory = TeacherMemory(tmp_path, "b" if other == "teacher" else "a", 1e9)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + (other == "threads"))
        names = ["logits", "y" if other == "name" else "x"]
        memory.get(images(1 if other == "pixels" else 0), names, ask)
    finally:
        torch.set_num_threads(threads)
    assert ask.times == 2


def test_a_damaged_file_is_asked_for_again(tmp_path: Path) -> None:
    ask = Asked()
    memory = TeacherMemory(tmp_path, "a", 1e9)
    memory.get(images(), ["logits", "x"], ask)
    for place in (0, 1):
        file = sorted(tmp_path.iterdir())[place]
        file.write_bytes(file.read_bytes()[:-3])
        found = memory.get(images(), ["logits", "x"], ask)
        assert ask.times == 2 + place
        assert torch.equal(found[1], ask.tensors[1])
    memory.get(images(), ["logits", "x"], ask)
    assert ask.times == 3


def test_no_more_is_kept_than_allowed(tmp_path: Path) -> None:
    ask, size = Asked(), 0
    ask.tensors = ask.tensors[:1]
    for seed in range(50):
        TeacherMemory(tmp_path / "all", "a", 1e9).get(images(seed), ["logits"], ask)
        size = sum(file.stat().st_size for file in (tmp_path / "all").iterdir())
    two = [TeacherMemory(tmp_path / "some", "a", size / 2) for _ in range(2)]
    for seed in range(100):
        two[seed % 2].get(images(seed), ["logits"], ask)
    kept = sum(file.stat().st_size for file in (tmp_path / "some").iterdir())
    assert 0.9 * size / 2 < kept < 1.1 * size / 2
    assert ask.times == 150


def test_no_more_is_kept_than_the_disk_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    memory = TeacherMemory(tmp_path, "a", 5000)
    for seed in range(50):
        memory.get(images(seed), ["logits", "x"], Asked())
    assert 500 < sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1000 + 5000 / 64


def test_a_full_disk_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_memory, "_replace", full)
    ask = Asked()
    memory = TeacherMemory(tmp_path, "a", 1e9)
    for times in (1, 2):
        assert torch.equal(memory.get(images(), ["logits", "x"], ask)[0], ask.tensors[0])
        assert ask.times == times


def test_time_is_told_as_though_it_had_been_asked(tmp_path: Path) -> None:
    ask = Asked(seconds=0.2)
    memory = TeacherMemory(tmp_path, "a", 1e9)
    for count in (1, 2, 3):
        started = time.process_time() + memory.spared
        memory.get(images(), ["logits", "x"], ask)
        assert time.process_time() + memory.spared - started == pytest.approx(0.2, abs=0.02)
        assert ask.times == 1, count


@pytest.mark.parametrize("method", ["imf", "kd", "dkd", "fitnet"])
def test_trainings_end_the_same_and_the_second_asks_nobody(
    data: DataSet, teacher: Teacher, tmp_path: Path, method: str
) -> None:
    settings = {"imf": KD | {"alpha": 2.0}, "dkd": {"target": 1.0, "others": 2.0, "temperature": 4.0}}
    run = Run.of("resnet8", method, settings.get(method, KD | {"hint": 2.0}), BASE, tested=True)
    seen: list[int] = []
    shared = replace(teacher, memory=TeacherMemory(tmp_path / "m", teacher.sha256, 1e9))
    hook = teacher.module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    weights, counts, results = [], [], []
    try:
        for place, its in (("alone", teacher), ("first", shared), ("second", shared)):
            seen.clear()
            results.append(train(run, data, its, tmp_path / place))
            counts.append(sum(seen))
            weights.append(read_weights(next((tmp_path / place).glob("*.safetensors"))))
    finally:
        hook.remove()
    trained = BASE.epochs * (len(data.train) // BASE.batch_size) * BASE.batch_size
    assert counts[0] - counts[1] == trained, "heads are re-fitted to the images of the training"
    assert trained <= counts[1] <= trained + 2
    assert counts[2] <= 2, "its blocks are found with a picture"
    assert results[0].test == results[1].test == results[2].test
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert torch.equal(tensor, weights[2][name]), name
