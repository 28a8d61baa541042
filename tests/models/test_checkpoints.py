"""Checkpoints of other tools: found, fitted, and refused without running code."""

import argparse
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, load_checkpoint, save_weights

State = dict[str, torch.Tensor]


def fresh(name: str = "resnet8", classes: int = 4) -> nn.Module:
    return build_model(ModelSpec(name, classes, 16))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return fresh()


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def loads(path: Path, model: nn.Module, key: str = "", name: str = "resnet8") -> list[str]:
    """Load into a fresh network, and check that it has the model's parameters then."""
    network = fresh(name)
    notes = load_checkpoint(network, path, key)
    own = model.state_dict()
    for tensor_name, tensor in network.state_dict().items():
        assert torch.equal(tensor, own[tensor_name]), tensor_name
    return notes


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("key", ["", "state_dict", "model", "model_state_dict", "network", "a.b"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.model."])
def test_the_usual_forms(tmp_path: Path, model: nn.Module, key: str, prefix: str) -> None:
    content: Any = under(prefix, model.state_dict())
    for part in reversed(key.split(".") if key else []):
        content = {part: content, "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    assert loads(save(tmp_path / "w.pt", content), model) == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.module."])
def test_prefixes_in_safetensors(tmp_path: Path, model: nn.Module, prefix: str) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, under(prefix, model.state_dict()))
    assert loads(path, model) == []


def test_averaged_and_profiled(tmp_path: Path, model: nn.Module) -> None:
    averaged = AveragedModel(model)
    assert loads(save(tmp_path / "swa.pt", averaged.state_dict()), model) == []
    profiled = model.state_dict() | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)}
    assert loads(save(tmp_path / "thop.pt", profiled), model) == []


def test_compiled_inside(tmp_path: Path, model: nn.Module) -> None:
    state = {name.replace("layer1.", "layer1._orig_mod."): t for name, t in model.state_dict().items()}
    assert loads(save(tmp_path / "w.pt", state), model) == []


class Wrapped(nn.Module):
    """A network whose own attribute is called as a wrapper's is."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        self.add_module(attribute, nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))


@pytest.mark.parametrize("attribute", ["module", "model", "_orig_mod", "n_averaged", "aux1"])
@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_a_network_with_such_an_attribute(tmp_path: Path, attribute: str, prefix: str) -> None:
    trained, network = Wrapped(attribute), Wrapped(attribute)
    load_checkpoint(network, save(tmp_path / "w.pt", under(prefix, trained.state_dict())))
    assert all(torch.equal(t, trained.state_dict()[n]) for n, t in network.state_dict().items())


def test_only_a_prefix_that_all_names_have(tmp_path: Path, model: nn.Module) -> None:
    state = under("model.", model.state_dict()) | {"criterion.weight": torch.ones(4)}
    path = save(tmp_path / "w.ckpt", {"state_dict": state})
    with pytest.raises(ImfDeployError, match=r"unknown: .*criterion|holds more than") as caught:
        loads(path, model)
    assert "add `weights_key` state_dict.model" in str(caught.value)
    assert loads(path, model, "state_dict.model") == []


def test_two_sets(tmp_path: Path, model: nn.Module) -> None:
    average = fresh()
    content = {"model_ema": average.state_dict(), "model": model.state_dict(), "epoch": 1}
    path = save(tmp_path / "w.pt", content)
    assert loads(path, model) == [
        f"{path} holds 2 sets of weights: 'model' is used; `weights_key` model_ema selects another"
    ]
    assert loads(path, average, "model_ema") == []
    assert loads(path, model, "model") == []
    with pytest.raises(
        UsageError, match=r"no weights under `weights_key` ema\. For example: model_ema, model"
    ):
        loads(path, model, "ema")


@pytest.mark.parametrize(
    "ema",
    [
        "state_dict_ema", "ema_state_dict", "ema", "ema_model.state_dict", "avg_model", "average", "shadow",
        "polyak.state_dict", "model-ema",
    ],
)  # fmt: skip
def test_an_average_comes_second(tmp_path: Path, model: nn.Module, ema: str) -> None:
    content: Any = under("module.", fresh().state_dict())
    for part in reversed(ema.split(".")):
        content = {part: content}
    path = save(tmp_path / "w.pt", content | {"state_dict": model.state_dict()})
    assert f"`weights_key` {ema} selects another" in loads(path, model)[0]


def test_an_average_within_flat_names(tmp_path: Path, model: nn.Module) -> None:
    average = fresh()
    path = tmp_path / "w.safetensors"
    save_weights(path, under("ema.", average.state_dict()) | under("model.", model.state_dict()))
    with pytest.raises(ImfDeployError, match="add `weights_key` model"):
        loads(path, model)
    assert loads(path, average, "ema") == []
    assert loads(path, model, "model") == []


def test_batch_norm_without_counters(tmp_path: Path, model: nn.Module) -> None:
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert loads(save(tmp_path / "w.pt", under("module.", state)), model) == []


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 96), ("googlenet", 64)])
def test_heads_that_only_training_uses(tmp_path: Path, name: str, size: int) -> None:
    import torchvision

    published = torchvision.models.get_model(name, weights=None, num_classes=3, init_weights=False)
    network = build_model(ModelSpec(name, 3, size))
    notes = load_checkpoint(network, save(tmp_path / "w.pt", published.state_dict()))
    assert len(notes) == 1
    assert "left out, because only training uses it" in notes[0]
    own = published.state_dict()
    assert all(torch.equal(t, own[n]) for n, t in network.state_dict().items())


def before_counters(state: State) -> State:
    return {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}


def densenet_of_torchvision(state: State) -> State:
    """Names as in torchvision's densenet121-a639ec97.pth."""
    parts = ((f".{kind}{i}.", f".{kind}.{i}.") for kind in ("norm", "conv", "relu") for i in (1, 2))
    for new, old in parts:
        state = {n.replace(new, old) if ".denselayer" in n else n: t for n, t in state.items()}
    return before_counters(state)


def last_linear(state: State) -> State:
    """Names as in the package pretrainedmodels."""
    return {re.sub(r"^(fc|classifier)\.", "last_linear.", n): t for n, t in state.items()}


@pytest.mark.parametrize(
    ("name", "size", "older", "example"),
    [
        ("densenet121", 32, densenet_of_torchvision, "features.denseblock1.denselayer1.norm.1.running_mean"),
        ("densenet121", 32, densenet_of_torchvision, "features.denseblock4.denselayer16.conv.2.weight"),
        ("timm:densenet121", 32, densenet_of_torchvision, "features.denseblock2.denselayer3.conv.1.weight"),
        ("densenet121", 32, lambda s: last_linear(densenet_of_torchvision(s)), "last_linear.weight"),
        ("inception_v3", 96, lambda s: last_linear(before_counters(s)), "last_linear.bias"),
        ("inception_v3", 96, before_counters, "Mixed_7c.branch_pool.bn.running_var"),
    ],
)
def test_older_names(
    tmp_path: Path, name: str, size: int, older: Callable[[State], State], example: str
) -> None:
    network, other = (build_model(ModelSpec(name, 3, size)) for _ in range(2))
    old = older(dict(network.state_dict()))
    assert example in old
    load_checkpoint(other, save(tmp_path / "w.pt", under("module.", old)))
    own = before_counters(network.state_dict())
    assert all(torch.equal(t, own[n]) for n, t in before_counters(other.state_dict()).items())


@pytest.mark.parametrize("counter", ["n_averaged", "num_updates", "decay"])
def test_counters_of_averages(tmp_path: Path, model: nn.Module, counter: str) -> None:
    state = under("module.", model.state_dict()) | {counter: torch.tensor(3)}
    assert loads(save(tmp_path / "w.pt", {"model_ema": state}), model) == []


def test_a_truncated_whole_network(tmp_path: Path, model: nn.Module) -> None:
    path = save(tmp_path / "w.pt", model)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ImfDeployError, match="damaged or holds more than tensors") as caught:
        loads(path, model)
    assert "\n" not in str(caught.value)


def typed(message: str, folder: Path) -> Path:
    """Run the Python that a message says to type, and return the file that it writes."""
    code = message[message.index("import torch") :].rstrip(".")
    written = folder / "weights.pt"
    exec(code.replace("'weights.pt'", repr(str(written))))
    return written


def one_plain_line(text: str) -> bool:
    return "\n" not in text and "\x1b" not in text and "x1b" not in text


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_is_converted_as_the_message_says(tmp_path: Path, model: nn.Module) -> None:
    path = tmp_path / "w.pt"
    traced: Any = torch.jit.trace(model.eval(), torch.zeros(1, 3, 16, 16))  # type: ignore[no-untyped-call]
    traced.save(str(path))
    with pytest.raises(ImfDeployError, match="TorchScript archive") as caught:
        loads(path, model)
    assert one_plain_line(str(caught.value))
    assert loads(typed(str(caught.value), tmp_path), model) == []


def test_another_form_of_pickle_is_converted_as_the_message_says(tmp_path: Path, model: nn.Module) -> None:
    path = tmp_path / "w.pt"
    content = {"state_dict": model.state_dict(), "args": argparse.Namespace(folder=Path("a"))}
    torch.save(content, path, pickle_protocol=4)
    with pytest.raises(ImfDeployError, match="was refused: it is damaged or holds more") as caught:
        loads(path, model)
    assert one_plain_line(str(caught.value))
    assert loads(typed(str(caught.value), tmp_path), model) == []


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_truncated_pt(tmp_path: Path, model: nn.Module, suffix: str) -> None:
    path = save(tmp_path / f"w.{suffix}", model.state_dict())
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ImfDeployError, match="damaged or holds more than tensors") as caught:
        loads(path, model)
    assert "\n" not in str(caught.value)


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("form", ["zip", "pickle", "namespace", "legacy"])
def test_code_in_a_pt_is_refused_and_not_run(tmp_path: Path, model: nn.Module, form: str) -> None:
    witness, path = tmp_path / "it-ran", tmp_path / "w.pt"
    extra: Any = Hostile(witness)
    hostile = {"conv1.weight": torch.zeros(1), "extra": extra}
    if form == "pickle":
        path.write_bytes(pickle.dumps(extra))
    else:
        content = {"args": argparse.Namespace(a=extra)} if form == "namespace" else hostile
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
        assert zipfile.is_zipfile(path) == (form != "legacy")
    with pytest.raises(ImfDeployError, match="was refused") as caught:
        loads(path, model)
    assert not witness.exists()
    assert "\n" not in str(caught.value)
    # The same file is dangerous to who trusts it.
    pickle.loads(path.read_bytes()) if form == "pickle" else torch.load(path, weights_only=False)
    assert witness.exists()


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], {"a": [1, 2]}, {"a": 1}, torch.zeros(3), {1: torch.zeros(1)}]
)
def test_a_pt_without_a_state_dict(tmp_path: Path, model: nn.Module, content: object) -> None:
    with pytest.raises(ImfDeployError, match="holds no state_dict"):
        loads(save(tmp_path / "w.pt", content), model)


def test_a_dictionary_that_holds_itself(tmp_path: Path, model: nn.Module) -> None:
    content: dict[str, Any] = {"model": model.state_dict()}
    content["again"] = content
    content["more"] = [content]
    assert loads(save(tmp_path / "w.pt", content), model) == []


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|quantize_per_tensor)")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.to("meta"), "meta device, which have no values"),
        (lambda t: t.to_sparse(), "sparse coo tensors"),
        (lambda t: t.to_sparse_csr(), "sparse csr tensors"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised tensors"),
    ],
)
def test_tensors_without_plain_values(
    tmp_path: Path, model: nn.Module, change: Callable[..., Any], what: str
) -> None:
    state = OrderedDict(model.state_dict()) | {"fc.weight": change(torch.zeros(4, 64))}
    with pytest.raises(UsageError, match=rf"{what} \(fc\.weight\)") as caught:
        loads(save(tmp_path / "w.pt", state), model)
    assert "\n" not in str(caught.value)


def test_another_model_is_named(tmp_path: Path, model: nn.Module) -> None:
    path = save(tmp_path / "w.pt", {"model": under("module.", fresh("resnet14").state_dict())})
    with pytest.raises(ImfDeployError, match=r"does not belong to .*unknown: layer1\.1\.conv1\.weight"):
        loads(path, model)
    with pytest.raises(ImfDeployError, match=r"other shapes: fc\.weight \[9, 64\] for \[4, 64\]"):
        loads(save(path, fresh(classes=9).state_dict()), model)
