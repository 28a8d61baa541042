"""Weights that a network starts from: files, and published ones in caches that the tests fill."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, save_weights
from imf_deploy.models.names import resolve
from imf_deploy.models.pretrained import preparation_of, read_pretrained
from imf_deploy.records.files import DistilledFile

State = dict[str, torch.Tensor]


def fresh(name: str = "resnet8", classes: int = 4, size: int = 16) -> nn.Module:
    return build_model(ModelSpec(name, classes, size))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def equal(model: nn.Module, state: State, but: frozenset[str] = frozenset()) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own.keys() - but)


def torch_file(path: Path, state: State) -> None:
    torch.save(state, path)


def wrapped_file(path: Path, state: State) -> None:
    torch.save({"model": {f"module.{name}": t for name, t in state.items()}, "epoch": 3}, path)


def safe_file(path: Path, state: State) -> None:
    save_weights(path, state)


WRITERS = [
    ("w.pt", torch_file),
    ("w.ckpt", wrapped_file),
    ("w.bin", torch_file),
    ("w.safetensors", safe_file),
]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_a_file_of_the_same_classes_is_used_whole(
    tmp_path: Path, name: str, write: Callable[[Path, State], None]
) -> None:
    state = fresh().state_dict()
    write(tmp_path / name, state)
    model = fresh()
    found = read_pretrained(str(tmp_path / name), ModelSpec("resnet8", 4, 16))
    found.load(model)
    assert equal(model, state)
    assert found.notes == ()
    assert (found.origin.classes, found.origin.new_head, found.origin.license) == (4, False, None)
    assert found.origin.sha256 == sha256(tmp_path / name)


@pytest.mark.parametrize(
    ("network", "name", "write"),
    [
        *(("resnet8", *form) for form in WRITERS),
        ("mobilenetv2x0.5", "w.pt", wrapped_file),
        ("torchvision:squeezenet1_1", "w.pth", torch_file),
        ("timm:deit_tiny_distilled_patch16_224", "w.safetensors", safe_file),
    ],
)
def test_of_other_classes_the_classifier_starts_fresh(
    tmp_path: Path, name: str, write: Callable[[Path, State], None], network: str
) -> None:
    state = fresh(network, 7, 32).state_dict()
    write(tmp_path / name, state)
    model = fresh(network, 4, 32)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    found = read_pretrained(str(tmp_path / name), ModelSpec(network, 4, 32))
    found.load(model)
    heads = {n for n, t in model.state_dict().items() if t.shape != state[n].shape}
    assert heads == found.new
    assert equal(model, state, found.new)
    assert all(torch.equal(model.state_dict()[n], before[n]) for n in heads)
    assert found.notes == (
        f"{tmp_path / name} was trained for 7 classes: a new classifier of 4 classes starts",
    )


def test_reading_does_not_change_the_numbers_drawn_next(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", fresh(classes=7).state_dict())
    torch.manual_seed(3)
    read_pretrained(str(tmp_path / "w.safetensors"), ModelSpec("resnet8", 4, 16))
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


def test_a_file_without_a_classifier_gives_the_body(tmp_path: Path) -> None:
    state = {
        n: t for n, t in fresh().state_dict().items() if not n.startswith(("fc", "linear", "classifier"))
    }
    save_weights(tmp_path / "body.safetensors", state)
    found = read_pretrained(str(tmp_path / "body.safetensors"), ModelSpec("resnet8", 4, 16))
    assert found.origin.classes is None
    assert found.tensors.keys() == state.keys()
    assert "has no classifier" in found.notes[0]


def test_one_channel_takes_the_sum_of_three(tmp_path: Path) -> None:
    state = fresh(classes=7).state_dict()
    save_weights(tmp_path / "w.safetensors", state)
    spec = ModelSpec("resnet8", 4, (1, 16, 16))
    model = build_model(spec)
    found = read_pretrained(str(tmp_path / "w.safetensors"), spec)
    found.load(model)
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))
    assert "added up" in found.notes[-1]
    save_weights(tmp_path / "one.safetensors", model.state_dict())
    again = read_pretrained(str(tmp_path / "one.safetensors"), spec)
    assert again.notes == ()
    assert torch.equal(again.tensors["conv1.weight"], model.state_dict()["conv1.weight"])


def test_more_than_the_classifier_must_fit(tmp_path: Path) -> None:
    state = fresh(classes=7).state_dict()
    missing = next(name for name in state if "conv" in name)
    del state[missing]
    save_weights(tmp_path / "w.safetensors", state)
    with pytest.raises(ImfDeployError) as caught:
        read_pretrained(str(tmp_path / "w.safetensors"), ModelSpec("resnet8", 4, 16))
    assert caught.value.what.endswith(f"does not belong to resnet8 (missing: {missing})")


def test_a_student_inside_a_distilled_file_is_found(distilled_artifact: DistilledFile) -> None:
    spec = ModelSpec.from_dict(distilled_artifact.model)
    found = read_pretrained(str(distilled_artifact.path), spec, distilled_artifact.preprocess.labels)
    assert found.notes == (f"{distilled_artifact.path}: the weights under 'student' are used",)
    assert found.new == frozenset()


def test_a_record_names_the_network_the_input_and_the_classes(teacher_file: Path, data: Any) -> None:
    spec = ModelSpec("resnet8", 3, 16)
    same = read_pretrained(str(teacher_file), spec, data.preprocess.labels)
    other = read_pretrained(str(teacher_file), spec, ("a", "b", "c"))
    assert (same.new, same.notes) == (frozenset(), ())
    assert other.new
    assert "other classes" in other.notes[0]
    assert same.preparation == preparation_of(str(teacher_file), "resnet8")
    assert same.preparation is not None
    assert (same.preparation.size, same.preparation.mean) == (16, data.preprocess.mean)
    with pytest.raises(ImfDeployError, match="holds the weights of resnet8, not of resnet14"):
        read_pretrained(str(teacher_file), ModelSpec("resnet14", 3, 16))


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def no_network(*_: object, **__: object) -> None:
    raise OSError("Name or service not known")


def test_torchvision_weights_come_from_its_cache(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    state = fresh("mobilenetv2", 1000, 64).state_dict()
    path = torch_home / "mobilenet_v2-7ebf99e0.pth"
    torch.save(state, path)
    spec = ModelSpec("mobilenetv2", 4, 64)
    found = read_pretrained("pretrained", spec)
    model = build_model(spec)
    found.load(model)
    assert equal(model, state, found.new)
    assert found.new == {"classifier.1.weight", "classifier.1.bias"}
    assert found.origin.source == "torchvision MobileNet_V2_Weights.IMAGENET1K_V2"
    assert found.origin.sha256 == sha256(path)
    # The test's file is not what torchvision publishes under this name.
    assert "does not have the hash that its name states" in found.notes[0]
    assert found.preparation is not None
    assert (found.preparation.size, found.preparation.interpolation) == (224, "bilinear")
    assert found.preparation.crop_fraction == pytest.approx(224 / 232)


def test_without_a_network_the_message_says_how_to_fill_the_cache(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ImfDeployError) as caught:
        read_pretrained("pretrained:IMAGENET1K_V1", ModelSpec("mobilenetv2", 4, 64))
    assert caught.value.exit_code == 1
    assert "mobilenet_v2-b0353104.pth is not in torch's cache" in caught.value.what
    assert "curl -LO https://download.pytorch.org/models/mobilenet_v2-b0353104.pth" in caught.value.hint
    assert str(torch_home) in caught.value.hint
    assert list(torch_home.iterdir()) == []


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any], State], Path]:
    """Fill Hugging Face's cache, offline, as its own downloader lays it out."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))

    def fill(repository: str, config: dict[str, Any], state: State) -> Path:
        place = folder / f"models--{repository.replace('/', '--')}"
        snapshot = place / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs/main").write_text("0" * 40)
        (snapshot / "config.json").write_text(json.dumps(config))
        save_file({n: t.contiguous() for n, t in state.items()}, snapshot / "model.safetensors")
        return snapshot / "model.safetensors"

    return fill


def test_timm_weights_come_from_the_hubs_cache(hub: Callable[..., Path]) -> None:
    spec = ModelSpec("timm:tf_efficientnet_lite0", 4, 64)
    state = build_model(ModelSpec(spec.name, 1000, 64)).state_dict()
    path = hub("timm/tf_efficientnet_lite0.in1k", {}, state)
    for text in ("pretrained", "pretrained:in1k"):
        found = read_pretrained(text, spec)
        model = build_model(spec)
        found.load(model)
        assert equal(model, state, found.new)
        assert found.new == {"classifier.weight", "classifier.bias"}
        assert found.origin.source == "timm tf_efficientnet_lite0.in1k"
        assert found.origin.license == "apache-2.0"
        assert found.origin.sha256 == sha256(path)
        assert found.preparation is not None
        assert found.preparation.mean == (0.5, 0.5, 0.5)
        assert found.preparation.interpolation == "bicubic"
        assert found.preparation.crop_fraction == 0.875


def test_a_vision_transformer_is_adapted_to_the_size(hub: Callable[..., Path]) -> None:
    name = "timm:deit_tiny_patch16_224"
    hub("timm/deit_tiny_patch16_224.fb_in1k", {}, build_model(ModelSpec(name, 1000, 224)).state_dict())
    found = read_pretrained("pretrained", ModelSpec(name, 4, 64))
    assert found.tensors["pos_embed"].shape == (1, 17, 192)


CONFIG = {
    "architecture": "resnet10t",
    "num_classes": 5,
    "pretrained_cfg": {
        "input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.9,
        "interpolation": "bilinear", "license": "mit", "num_classes": 5, "classifier": "fc",
        "first_conv": "conv1.0",
    },
}  # fmt: skip


def test_weights_on_the_hub_by_their_own_name(hub: Callable[..., Path]) -> None:
    spec = ModelSpec("timm:resnet10t", 4, 64)
    state = build_model(ModelSpec(spec.name, 5, 64)).state_dict()
    hub("someone/flowers", CONFIG, state)
    found = read_pretrained("hf-hub:someone/flowers", spec)
    model = build_model(spec)
    found.load(model)
    assert equal(model, state, found.new)
    assert (found.origin.source, found.origin.classes, found.origin.license) == (
        "hf-hub:someone/flowers",
        5,
        "mit",
    )
    assert preparation_of("hf-hub:someone/flowers", spec.name) == found.preparation
    assert found.preparation is not None
    assert (found.preparation.size, found.preparation.mean) == (96, (0.1, 0.2, 0.3))
    with pytest.raises(UsageError, match="holds weights of timm:resnet10t, not of timm:resnet18"):
        read_pretrained("hf-hub:someone/flowers", ModelSpec("timm:resnet18", 4, 64))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"architecture": 3}, "(architecture should be a valid string)"),
        ({"architecture": "../x"}, "holds weights of timm:, not of timm:resnet10t"),
        ({"pretrained_cfg": {"mean": 3}}, "(mean should be a valid array)"),
        ({"pretrained_cfg": {"std": [1, 0, 1]}}, "(std[1] should be greater than 0)"),
        ({"pretrained_cfg": {"crop_pct": "big"}}, "(crop_pct should be a valid number)"),
        ({"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}}, "(input_size[1] should be less than"),
        ({"pretrained_cfg": None}, "is not a description of timm's"),
        ({"model_args": {"act_layer": "gelu"}}, "other settings of the network (act_layer)"),
    ],
)
def test_a_description_of_any_content(hub: Callable[..., Path], change: dict[str, Any], part: str) -> None:
    spec = ModelSpec("timm:resnet10t", 4, 64)
    hub("someone/flowers", CONFIG | change, {})
    with pytest.raises(ImfDeployError) as caught:
        read_pretrained("hf-hub:someone/flowers", spec)
    assert part in caught.value.what


def test_offline_the_message_names_the_command(hub: Callable[..., Path]) -> None:
    with pytest.raises(ImfDeployError) as caught:
        read_pretrained("pretrained", ModelSpec("timm:tf_efficientnet_lite0", 4, 64))
    assert "is not in Hugging Face's cache" in caught.value.what
    assert "hf download timm/tf_efficientnet_lite0.in1k config.json model.safetensors" in caught.value.hint
    assert "models--timm--tf_efficientnet_lite0.in1k" in caught.value.hint
    with pytest.raises(ImfDeployError, match=r"config\.json of someone/else is not in"):
        preparation_of("hf-hub:someone/else", "timm:resnet10t")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("pretrained:V9", "mobilenetv2", "no published weights 'V9'. Use pretrained:IMAGENET1K_V1, pretr"),
        ("pretrained:zzz", "timm:resnet50", "no published weights 'zzz'. Use pretrained:a1"),
        ("pretrained:in1k", "timm:resnet50.a1_in1k", "names other weights than in1k"),
        ("pretrained", "resnet20", "no weights are published for resnet20"),
        ("pretrained", "mobilenetv2x0.5", "no weights are published for mobilenet_v2 at width 0.5"),
        ("hf-hub:a/b", "resnet18", "holds weights of timm, but resnet18 is torchvision's"),
        ("nothing.pt", "resnet18", "nothing.pt"),
    ],
)
def test_what_is_not_published_is_refused_before_a_download(text: str, name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        preparation_of(text, name)
    assert message in str(caught.value)


def test_a_tag_is_part_of_timms_name() -> None:
    found = preparation_of("pretrained", "timm:resnet50.a1_in1k")
    assert found is not None
    assert found.crop_fraction == 0.95
    with pytest.raises(UsageError, match=r"unknown model 'timm:resnet50\.zzz'"):
        resolve("timm:resnet50.zzz")


def test_a_damaged_file_in_a_cache_is_named(torch_home: Path, hub: Callable[..., Path]) -> None:
    (torch_home / "mobilenet_v2-7ebf99e0.pth").write_bytes(b"no weights")
    with pytest.raises(ImfDeployError, match=r"mobilenet_v2-7ebf99e0\.pth was refused"):
        read_pretrained("pretrained", ModelSpec("mobilenetv2", 4, 64))
    hub("timm/tf_efficientnet_lite0.in1k", {}, {}).write_bytes(b"no weights")
    with pytest.raises(ImfDeployError, match=r"model\.safetensors does not hold the weights of timm"):
        read_pretrained("pretrained", ModelSpec("timm:tf_efficientnet_lite0", 4, 64))
