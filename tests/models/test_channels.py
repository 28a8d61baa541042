"""Networks for images of one channel."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, load_weights, sum_channels
from imf_deploy.models.behaviour import check_behaviour

NETWORKS = (
    "mobilenetv2", "mobilenetv2x0.5", "mobilenetv3", "shufflenetv2", "resnet8", "densenet121",
    "googlenet", "squeezenet1_1", "efficientnet_b0", "regnet_y_400mf", "mnasnet0_5", "swin_t",
    "cifar:vgg8", "cifar:shufflenetv1", "cifar:wrn-16-1", "cifar:mobilenetv2",
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_for_one_channel_answers_as_for_three_equal_ones(name: str) -> None:
    models = []
    for size in ((1, 64, 64), (3, 64, 64)):
        torch.manual_seed(0)
        models.append(build_model(ModelSpec.for_images(name, 3, size)).eval())
    one, three = models
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one(grey), three(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    # Only the first convolution differs, so the weights of one fit the other.
    tensors = sum_channels(three.state_dict(), one.state_dict())
    load_weights(one, tensors, name)
    changed = [n for n, tensor in three.state_dict().items() if tensors[n].shape != tensor.shape]
    assert len(changed) == 1


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t", "vit_tiny_patch16_224"])
def test_timm_builds_them_itself(name: str) -> None:
    model = build_model(ModelSpec.for_images(f"timm:{name}", 3, (1, 64, 64)))
    library = timm.create_model(name, in_chans=1, num_classes=3, img_size=64 if "vit" in name else None)
    library.load_state_dict(model.state_dict(), strict=True)


def test_the_library_s_own_network_takes_the_weights() -> None:
    """As docs/models.md describes."""
    model = build_model(ModelSpec.for_images("mobilenetv2", 3, (1, 64, 64)))
    library = torchvision.models.mobilenet_v2(num_classes=3)
    library.features[0][0] = nn.Conv2d(1, 32, 3, 2, 1, bias=False)
    library.load_state_dict(model.state_dict(), strict=True)


def test_other_weights_are_not_summed() -> None:
    tensors = {name: torch.ones(4, 3, 3, 3) for name in "abd"} | {"c": torch.ones(4, 3)}
    expected = {"a": torch.ones(4, 1, 3, 3), "b": torch.ones(4, 3, 3, 3), "d": torch.ones(4, 1, 5, 5)}
    summed = sum_channels(tensors, expected)
    assert summed["a"].shape == (4, 1, 3, 3)
    assert summed["a"].unique().tolist() == [3.0]
    assert all(summed[name] is tensors[name] for name in "bcd")


CODE = """
from torch import nn

def net(inputs, num_classes):
    return nn.Sequential(nn.Conv2d(inputs, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(6, num_classes))

def any_input(num_classes, channels, image_size):
    network = net(channels, num_classes)
    network.asked = channels, image_size
    return network

def grey(num_classes):
    return net(1, num_classes)

def coloured(num_classes):
    return net(3, num_classes)
"""


def test_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "channels_here.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    for size, asked in ((16, (3, 16)), ((16, 24), (3, (16, 24))), ((1, 16, 16), (1, 16))):
        assert build_model(ModelSpec.for_images("channels_here:any_input", 3, size)).asked == asked
    build_model(ModelSpec.for_images("channels_here:grey", 3, (1, 16, 16)))
    with pytest.raises(ImfDeployError, match=r"cannot run on images of 16 pixels and 1 channel \("):
        build_model(ModelSpec.for_images("channels_here:coloured", 3, (1, 16, 16)))


def test_settings_for_three_channels() -> None:
    spec = ModelSpec("googlenet", 3, (1, 64, 64), settings=(("transform_input", True),))
    with pytest.raises(UsageError, match="`transform_input` is for images of three channels"):
        build_model(spec)


def test_behaviour_is_checked_on_images_of_the_network_s_own_shape() -> None:
    model = build_model(ModelSpec.for_images("resnet8", 3, (1, 16, 24)))
    check_behaviour(model, (1, 16, 24), "resnet8")
    with pytest.raises(RuntimeError):
        check_behaviour(model, (16, 24), "resnet8")
