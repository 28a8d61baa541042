"""Objects of other tools in files of weights: read around, and never run."""

import argparse
import collections
import contextlib
import datetime
import enum
import functools
import pathlib
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel

from imf_deploy.models import ModelSpec, build_model, load_checkpoint
from imf_deploy.models.foreign import read_foreign


class Colour(enum.Enum):
    RED = 1


class AttributeDict(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class Options:
    """Options of a training script that lives nowhere near the reader."""

    def __init__(self) -> None:
        self.inner = argparse.Namespace(folder=pathlib.Path("a"), best=np.float64(3))


class Slots:
    __slots__ = ("lr",)

    def __init__(self) -> None:
        self.lr = 0.1


FOREIGN: dict[str, Any] = {
    "nested namespaces": argparse.Namespace(a=argparse.Namespace(b=pathlib.Path("x"), c=torch.device("cpu"))),
    "simple namespace": types.SimpleNamespace(a=1),
    "numpy scalar": np.float64(3),
    "numpy array": np.zeros(3),
    "state of numpy": np.random.get_state(),
    "generator": np.random.default_rng(0),
    "windows path": pathlib.PureWindowsPath("c:/a"),
    "date": datetime.datetime(2020, 1, 1),
    "enumeration": Colour.RED,
    "partial": functools.partial(round, ndigits=1),
    "function": nn.functional.relu,
    "own class": Options(),
    "own dictionary": AttributeDict(lr=0.1, more=AttributeDict(a=[Options()])),
    "slots": Slots(),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, 2], 5),
    "frozen set": frozenset([1]),
    "counter": collections.Counter("abc"),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(ModelSpec("resnet8", 4, 16))


def same(path: Path, model: nn.Module, key: str = "") -> list[str]:
    other = build_model(ModelSpec("resnet8", 4, 16))
    notes = load_checkpoint(other, path, key)
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in other.state_dict().items())
    return notes


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_weights_beside_another_object(tmp_path: Path, model: nn.Module, kind: str, zipped: bool) -> None:
    path = tmp_path / "w.pt"
    content = {"epoch": 3, "args": FOREIGN[kind], "model": model.state_dict()}
    with warnings.catch_warnings(action="ignore"):  # on the source of a class
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(path, model) == []


def test_weights_beside_a_whole_network(tmp_path: Path, model: nn.Module) -> None:
    other = torchvision.models.squeezenet1_1(num_classes=3)
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
    torch.save({"discriminator": other, "norm": norm, "model": model.state_dict()}, tmp_path / "w.pt")
    assert same(tmp_path / "w.pt", model) == []


def test_a_checkpoint_of_torchvisions_training_script(tmp_path: Path, model: nn.Module) -> None:
    """The keys and the classes that references/classification/train.py writes."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    main = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=1)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, main], [1])
    ema = AveragedModel(model)
    args = argparse.Namespace(
        data_path=pathlib.Path("/data"), device="cpu", lr=np.float64(0.1), weights=None, clip_grad_norm=None,
        interpolation=torchvision.transforms.InterpolationMode.BILINEAR, gpu=0, model="resnet8",
    )  # fmt: skip
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 1,
        "args": args,
        "model_ema": ema.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }
    path = tmp_path / "model_1.pth"
    torch.save(content, path)
    notes = same(path, model)
    assert notes == [
        f"{path} holds 2 sets of weights: 'model' is used; `weights_key` model_ema selects another"
    ]
    same(path, model, "model_ema")


@pytest.mark.parametrize("form", ["whole", "parallel", "under a key", "averaged"])
def test_a_network_that_was_saved_as_a_whole(tmp_path: Path, model: nn.Module, form: str) -> None:
    path = tmp_path / "w.pt"
    whole: Any = {"parallel": nn.DataParallel(model), "averaged": AveragedModel(model)}.get(form, model)
    torch.save({"epoch": 1, "model": whole} if form == "under a key" else whole, path)
    assert same(path, model) == []


@pytest.mark.parametrize("name", ["vit_b_16", "mobilenet_v3_small", "densenet121", "swin_t"])
def test_a_whole_network_has_the_names_of_its_state_dict(tmp_path: Path, name: str) -> None:
    from imf_deploy.models.foreign import network_state

    network = torchvision.models.get_model(name, num_classes=3)
    torch.save(network, tmp_path / "w.pt")
    state = network_state(read_foreign(tmp_path / "w.pt"))
    assert state is not None
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[n]) for n, tensor in state.items())


class Written:
    """Unpickling it writes a file, by a function that is in no module of the operating system."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.witness)!r}, 'w').close()",)


class Nested:
    """Its state runs code when it is set."""

    def __init__(self, witness: Path) -> None:
        self.inner = Written(witness)

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["inner"].witness.touch()


@pytest.mark.parametrize("kind", [Written, Nested])
def test_code_beside_weights_is_not_run(tmp_path: Path, model: nn.Module, kind: Any) -> None:
    path, witness = tmp_path / "w.pt", tmp_path / "it-ran"
    torch.save({"model": model.state_dict(), "extra": kind(witness)}, path)
    assert same(path, model) == []
    assert not witness.exists()
    # The same file is dangerous to who trusts it.
    with contextlib.suppress(AttributeError):
        torch.load(path, weights_only=False)
    assert witness.exists()


def test_stand_ins_are_forgotten(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"a": Options()}, tmp_path / "w.pt")
    read_foreign(tmp_path / "w.pt")
    assert set(torch.serialization.get_safe_globals()) == before
