"""Networks of transformers as teachers: built, tapped, loaded and prepared for without code from a folder."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import (
    ModelSpec,
    build_model,
    check_behaviour,
    check_student,
    find_blocks,
    preparation_of,
    read_pretrained,
    resolve,
    to_map,
)
from imf_deploy.preprocess import Preprocess

transformers = pytest.importorskip("transformers")
CLASSES = ("ant", "bee", "cat", "dog")
SIDE = 32
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {"image_size": SIDE, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "intermediate_size": 32}),
    "deit": ("DeiT", {"image_size": SIDE, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2,
                      "num_attention_heads": 2, "intermediate_size": 32}),
    "registers": ("Dinov2WithRegisters", {"image_size": SIDE, "patch_size": 8, "hidden_size": 24,
                                          "num_hidden_layers": 2, "num_attention_heads": 2,
                                          "num_register_tokens": 4}),
    "swin": ("Swin", {"image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [1, 1],
                      "num_heads": [2, 2], "window_size": 4}),
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1],
                          "layer_type": "basic"}),
    "convnext": ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}),
    "mobilenet": ("MobileNetV2", {"image_size": SIDE, "depth_multiplier": 0.25}),
}  # fmt: skip
LAST: dict[str, tuple[int, int]] = {
    "vit": (24, 4), "deit": (24, 4), "registers": (24, 4), "swin": (32, 4), "resnet": (32, 2),
    "convnext": (16, 4), "mobilenet": (24, 2),
}  # fmt: skip
"""Channels and side of each network's last map that is larger than one pixel."""


def made(kind: str, **changes: Any) -> Any:
    """Return a small network with random weights, for four classes unless others are given."""
    name, options = KINDS[kind]
    labels = dict(enumerate(CLASSES))
    own = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}, **options, **changes}
    torch.manual_seed(0)
    network = getattr(transformers, f"{name}ForImageClassification")(
        getattr(transformers, f"{name}Config")(**own)
    )
    for parameter in network.parameters():  # fresh weights of transformers hardly differ from image to image
        nn.init.normal_(parameter, std=0.2) if parameter.dim() > 1 else None
    return network.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    known: dict[str, tuple[Path, Any]] = {}

    def folder(kind: str) -> tuple[Path, Any]:
        if kind not in known:
            network, path = made(kind), tmp_path_factory.mktemp(kind)
            network.save_pretrained(path)
            known[kind] = (path, network)
        return known[kind]

    return folder


def spec_of(path: Path, classes: int = 4) -> ModelSpec:
    return ModelSpec.for_images(f"hf:{path}", classes, SIDE)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_features(folders: Callable[[str], tuple[Path, Any]], kind: str) -> None:
    path, network = folders(kind)
    spec = spec_of(path)
    model = build_model(spec)
    found = read_pretrained("pretrained", spec, CLASSES)
    found.load(model)
    model.eval()
    check_behaviour(model, SIDE, spec.name)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(model(images), network(pixel_values=images).logits, rtol=1e-4, atol=1e-5)
    assert (found.new, found.labels, found.origin.classes) == (frozenset(), CLASSES, 4)
    assert model.state_dict().keys() == network.state_dict().keys()
    block = find_blocks(model, SIDE)[-1]
    assert (block.channels, block.size) == LAST[kind]
    seen: list[torch.Tensor] = []
    model.get_submodule(block.name).register_forward_hook(lambda m, i, output: seen.append(output))
    with torch.no_grad():
        model(images)
    assert to_map(block, seen[0]).shape == (2, *LAST[kind][:1], LAST[kind][1], LAST[kind][1])


def test_tokens_of_a_vit_are_the_hidden_states(folders: Callable[[str], tuple[Path, Any]]) -> None:
    """The map is what transformers returns as its last hidden state, without the class token."""
    path, network = folders("vit")
    model = build_model(spec_of(path))
    read_pretrained("pretrained", spec_of(path)).load(model)
    model.eval()
    block = find_blocks(model, SIDE)[-1]
    seen: list[torch.Tensor] = []
    model.get_submodule(block.name).register_forward_hook(lambda m, i, output: seen.append(output))
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        model(images)
        hidden = network.vit(pixel_values=images).last_hidden_state
    torch.testing.assert_close(to_map(block, seen[0]), hidden[:, 1:].transpose(1, 2).reshape(2, 24, 4, 4))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_other_classes_get_a_new_head(folders: Callable[[str], tuple[Path, Any]], kind: str) -> None:
    path, network = folders(kind)
    spec = spec_of(path, classes=7)
    found = read_pretrained("pretrained", spec)
    model = build_model(spec)
    found.load(model)
    own = network.state_dict()
    assert found.new
    assert all("classifier" in name for name in found.new)
    assert all(torch.equal(t, own[n]) for n, t in model.state_dict().items() if n not in found.new)
    assert "was trained for 4 classes" in " ".join(found.notes)


def test_a_network_without_a_classifier_gets_one(tmp_path: Path) -> None:
    network = made("vit")
    network.vit.save_pretrained(tmp_path)
    found = read_pretrained("pretrained", spec_of(tmp_path))
    assert "has no classifier" in " ".join(found.notes)
    assert found.origin.classes is None


def as_numbers(processor: Any, image: Image.Image) -> Any:
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0])


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "image_mean": [0.4, 0.5, 0.6]}),
    "crop": ("CLIPImageProcessor", {"size": {"shortest_edge": 32},
                                    "crop_size": {"height": 28, "width": 28}}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    "plain": ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "do_normalize": False}),
    "twice": ("EfficientNetImageProcessor", {"size": {"height": 24, "width": 24}, "rescale_offset": True,
                                             "rescale_factor": 1 / 127.5}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_the_image_processor_is_followed(
    tmp_path: Path, folders: Callable[[str], tuple[Path, Any]], kind: str
) -> None:
    name, options = PROCESSORS[kind]
    processor = getattr(transformers, name)(**options)
    processor.save_pretrained(tmp_path)
    made("resnet").save_pretrained(tmp_path)
    preparation = preparation_of("pretrained", f"hf:{tmp_path}")
    assert preparation is not None
    size = preparation.size
    preprocess = Preprocess(
        size, "crop", round(size / preparation.crop_fraction), preparation.mean, preparation.std, CLASSES,
        interpolation=preparation.interpolation,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
    own = preprocess.normalize(torch.from_numpy(preprocess.load(image))[None])[0].numpy()
    theirs = as_numbers(processor, image)
    assert own.shape == theirs.shape
    # One step of 8 bits: transformers rounds elsewhere.
    assert np.abs(own - theirs).max() <= 2.5 / 255 / min(preparation.std)


def test_a_folder_without_an_image_processor(folders: Callable[[str], tuple[Path, Any]]) -> None:
    assert preparation_of("pretrained", f"hf:{folders('vit')[0]}") is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ViTImageProcessor", {"size": {"height": 24, "width": 32}}, "expects images of 24x32 pixels"),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": {"height": 24, "width": 24}},
         "another order than RGB"),
    ],
)  # fmt: skip
def test_preparations_that_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    getattr(transformers, name)(**options).save_pretrained(tmp_path)
    made("resnet").save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=message):
        preparation_of("pretrained", f"hf:{tmp_path}")


def edited(path: Path, **changes: Any) -> None:
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no_such_network"},
        {"model_type": "bert"},
        {"model_type": "no_such_network", "auto_map": {"AutoConfig": "code.Config"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"hidden_sizes": "many"},
    ],
)
def test_folders_that_describe_no_network_of_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    made("resnet").save_pretrained(tmp_path)
    edited(tmp_path, **changes)
    witness = tmp_path / "it-ran"
    (tmp_path / "code.py").write_text(f"open({str(witness)!r}, 'w')\nclass Config: ...\n")
    with pytest.raises(ImfDeployError) as caught:
        build_model(spec_of(tmp_path))
    assert "\n" not in str(caught.value)
    assert not witness.exists()


def test_weights_of_other_shapes_and_damaged_ones(tmp_path: Path) -> None:
    made("resnet").save_pretrained(tmp_path)
    edited(tmp_path, hidden_sizes=[8, 16, 64])
    with pytest.raises(ImfDeployError, match=r"does not belong to|does not hold the weights") as caught:
        read_pretrained("pretrained", spec_of(tmp_path))
    assert "\n" not in str(caught.value)
    edited(tmp_path, hidden_sizes=[8, 16, 32])
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ImfDeployError, match="does not hold the weights"):
        read_pretrained("pretrained", spec_of(tmp_path))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    network = made("resnet")
    network.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"no model\.safetensors.*save_pretrained"):
        read_pretrained("pretrained", spec_of(tmp_path))


@pytest.mark.parametrize("name", ["hf:", "hf:/no/such/folder", "hf:a/b/c", "hf:../x y", "hf:owner/\x1b"])
def test_names_that_stand_for_nothing(name: str) -> None:
    with pytest.raises(UsageError, match="neither a folder nor a repository's name"):
        resolve(name)


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        build_model(spec_of(tmp_path))


def test_a_repository_that_was_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = ModelSpec.for_images("hf:owner/name", 4, SIDE)
    with pytest.raises(UsageError, match=r"in Hugging Face's cache.*hf download owner/name"):
        build_model(spec)


def test_a_repository_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owner--name"
    network = made("resnet")
    network.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for name in ("hf:owner/name", f"hf:owner/name@{commit}"):
        found = read_pretrained("pretrained", ModelSpec.for_images(name, 4, SIDE))
        assert torch.equal(found.tensors["classifier.1.weight"], network.classifier[1].weight)
        assert found.origin.source == name
    with pytest.raises(ImfDeployError, match=r"config\.json of other/name is not in Hugging Face's cache"):
        read_pretrained("pretrained", ModelSpec.for_images("hf:other/name", 4, SIDE))


def test_a_student_is_refused(folders: Callable[[str], tuple[Path, Any]]) -> None:
    with pytest.raises(UsageError, match="cannot be a student"):
        check_student(spec_of(folders("resnet")[0]))


def test_without_transformers(folders: Callable[[str], tuple[Path, Any]], monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'imf-deploy\[hf\]'"):
        resolve(f"hf:{folders('vit')[0]}")
