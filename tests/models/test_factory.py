"""Models built by the user's own function: trusted by name, and checked by their behaviour."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model

CODE = """
from torch import nn
print("imported")

def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(6, num_classes))

def sized(num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size * image_size, num_classes))

def wrong_classes(num_classes):
    return build(num_classes + 1)

def maps(num_classes):
    return nn.Conv2d(3, num_classes, 1)

def no_network(num_classes):
    return "a network"

def fails(num_classes):
    raise RuntimeError("out of order")

def no_options():
    return build(2)

class Tuple(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = build(num_classes)
    def forward(self, x):
        return self.net(x), x

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of its own."""
    (tmp_path / "my_models_here.py").write_text(CODE)
    (tmp_path / "broken_models_here.py").write_text("import no_such_module_at_all")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    assert sys.path == before
    sys.modules.pop("my_models_here", None)


def test_a_factory_in_the_working_folder(here: Path) -> None:
    for name in ("build", "sized"):
        model = build_model(ModelSpec.for_images(f"my_models_here:{name}", 5, 16))
        assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)
        assert model.training


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("no_such_module_at_all:build", UsageError, "there is no module"),
        ("broken_models_here:build", UsageError, "there is no module"),
        ("my_models_here:absent", UsageError, "has no function 'absent'"),
        ("my_models_here:number", UsageError, "has no function 'number'"),
        ("my_models_here:wrong_classes", ImfDeployError, "outputs 6 logits, but there are 5 classes"),
        ("my_models_here:maps", ImfDeployError, r"a tensor of shape \[1, 5, 16, 16\]"),
        ("my_models_here:Tuple", ImfDeployError, "outputs tuple in evaluation mode"),
        ("my_models_here:no_network", ImfDeployError, "returned a str"),
        ("my_models_here:fails", ImfDeployError, "RuntimeError: out of order"),
        ("my_models_here:no_options", ImfDeployError, "It is called with num_classes"),
    ],
)
def test_what_cannot_be_used(here: Path, name: str, kind: type[ImfDeployError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        build_model(ModelSpec.for_images(name, 5, 16))
    assert "\n" not in str(caught.value)


def test_a_record_runs_no_code_that_is_not_trusted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "my_models_here:build"
    record = ModelSpec(name, 5, 16).to_dict()
    with pytest.raises(UsageError, match=f"add `trust_model` {name}"):
        ModelSpec.from_dict(record)
    with pytest.raises(UsageError, match=f"add --teacher {name}"):
        ModelSpec.from_dict(record, ("other.models:build",), "--teacher")
    assert capsys.readouterr().out == ""
    assert "my_models_here" not in sys.modules
    assert ModelSpec.from_dict(record, (name,)) == ModelSpec(name, 5, 16)
    build_model(ModelSpec.from_dict(record, (name,)))
    assert capsys.readouterr().out == "imported\n"
