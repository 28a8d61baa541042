"""Models by name, and the strides at their stem."""

import json
from pathlib import Path

import pytest
import torch
import torchvision

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, find_blocks, load_weights, read_weights, save_weights

LIBRARY = {"mobilenetv2": "mobilenet_v2", "resnet18": "resnet18", "shufflenetv2": "shufflenet_v2_x1_0"}


def shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", LIBRARY)
def test_small_pictures_keep_the_library_s_tensors_at_other_resolutions(name: str) -> None:
    library = getattr(torchvision.models, LIBRARY[name])(num_classes=5)
    spec = ModelSpec.for_images(name, 5, 32)
    assert spec.stem_strides == (2, 1)
    model = build_model(spec)
    assert shapes(model) == shapes(library)
    # One reduction fewer: the last map has twice the side.
    assert find_blocks(model, 64)[-1].size == 2 * find_blocks(library, 64)[-1].size
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(("strides", "last"), [((2, 2), 1), ((2, 1), 2), ((1, 2), 2), ((1, 1), 4)])
def test_strides_as_given(strides: tuple[int, ...], last: int) -> None:
    spec = ModelSpec.for_images("resnet18", 5, 32, strides)
    assert spec.stem_strides == strides
    seen = []
    model = build_model(spec).eval()
    model.layer4.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[-1]))
    model(torch.zeros(1, 3, 32, 32))
    assert seen == [last]


def test_a_block_and_its_shortcut_change_together() -> None:
    model = build_model(ModelSpec("resnet18", 5, 32, (1, 1, 1))).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert model.layer2[0].conv1.stride == model.layer2[0].downsample[0].stride == (1, 1)
    assert model.layer3[0].conv1.stride == model.layer3[0].downsample[0].stride == (2, 2)


def test_large_pictures_and_own_networks_keep_their_strides() -> None:
    assert ModelSpec.for_images("mobilenetv2", 5, 64).stem_strides == ()
    assert ModelSpec.for_images("resnet8", 5, 16).stem_strides == ()


def test_more_strides_than_reductions() -> None:
    with pytest.raises(UsageError, match="3 values, but the network reduces its input 2 times"):
        build_model(ModelSpec("resnet8", 5, 16, (1, 1, 1)))


@pytest.mark.parametrize(
    ("name", "near"),
    [("mobilenet2", "mobilenetv2"), ("resnet19", "resnet18"), ("shufflenet", "shufflenetv2")],
)
def test_an_unknown_name_shows_near_ones(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        ModelSpec.for_images(name, 5, 32)
    assert f"unknown model '{name}'" in str(caught.value)
    assert near in caught.value.hint


def test_a_name_unlike_any_shows_a_choice() -> None:
    with pytest.raises(UsageError, match="Try mobilenetv2"):
        build_model(ModelSpec("@@@", 5, 32))


def test_the_small_residual_networks_have_the_published_sizes() -> None:
    # He et al. 2016, table 6: 0.27 million parameters for ResNet-20, 0.85 for ResNet-56 (10 classes).
    for name, millions in (("resnet20", 0.27), ("resnet56", 0.85)):
        model = build_model(ModelSpec(name, 10, 32))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    "name", ["timm:mobilenetv2_050", "timm:tf_efficientnet_lite0", "efficientnet_b0", "mnasnet0_5"]
)
def test_a_fresh_head_for_few_classes_is_no_wider_than_pytorch_s(name: str) -> None:
    for classes in (2, 10):
        model = build_model(ModelSpec(name, classes, 64))
        head = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1].weight.detach()
        assert float(head.square().mean() * 3 * head.shape[1]) == pytest.approx(1, rel=1e-4)


def test_a_fresh_head_for_imagenet_is_the_library_s_own() -> None:
    torch.manual_seed(0)
    own = torchvision.models.efficientnet_b0(num_classes=1000).classifier[1].weight
    torch.manual_seed(0)
    assert torch.equal(build_model(ModelSpec("efficientnet_b0", 1000, 64)).classifier[1].weight, own)
    torch.manual_seed(0)
    small = torchvision.models.mobilenet_v2(num_classes=5).classifier[1].weight
    torch.manual_seed(0)
    assert torch.equal(build_model(ModelSpec("mobilenetv2", 5, 64)).classifier[1].weight, small)


@pytest.mark.parametrize("width", [0.35, 0.5, 1.4])
def test_a_width_of_mobilenetv2_is_torchvision_s(width: float) -> None:
    model = build_model(ModelSpec.for_images(f"mobilenetv2x{width}", 10, 32))
    library = torchvision.models.mobilenet_v2(num_classes=10, width_mult=width)
    library.load_state_dict(model.state_dict(), strict=True)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in library.parameters())


def test_a_width_of_the_small_residual_networks() -> None:
    model = build_model(ModelSpec("resnet20x0.5", 10, 32))
    assert [model.conv1.out_channels, model.layer2[0].conv1.out_channels, model.fc.in_features] == [8, 16, 32]
    # Half of the channels leave a quarter of the 3x3 weights between them.
    whole = build_model(ModelSpec("resnet20", 10, 32)).layer3[1].conv1.weight
    assert model.layer3[1].conv1.weight.numel() * 4 == whole.numel()
    narrow = build_model(ModelSpec("resnet8x0.1", 10, 32))
    assert [narrow.conv1.out_channels, narrow.fc.in_features] == [2, 6]


@pytest.mark.parametrize("name", ["mobilenetv2x0.5", "resnet8x0.5"])
def test_a_width_is_saved_and_loaded(tmp_path: Path, name: str) -> None:
    spec = ModelSpec.for_images(name, 3, 32)
    model = build_model(spec)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert (again, again.stem) == (spec, name)
    load_weights(build_model(again), read_weights(tmp_path / "w.safetensors"), "w")
    with pytest.raises(ImfDeployError):
        other = build_model(ModelSpec.for_images(name.partition("x")[0], 3, 32))
        load_weights(other, read_weights(tmp_path / "w.safetensors"), "w")


def test_json_and_back() -> None:
    spec = ModelSpec("mobilenetv2", 5, 32, (2, 1))
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ImfDeployError, match="record of the model is damaged"):
        ModelSpec.from_dict({"name": "mobilenetv2"})
