"""Fake quantisation: what is rounded, to which grid, with which gradient, and that it leaves no trace."""

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from imf_deploy.calib.fake_quantize import FakeQuantizedGraph, find_summands, require_torchao
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import ImfDeployError
from imf_deploy.models import ModelSpec, build_model

CPU = torch.device("cpu")


@pytest.fixture
def rounded(distilled: Distilled, data: DataSet) -> Iterator[FakeQuantizedGraph]:
    """The tiny student and its branches, calibrated."""
    wrapped = FakeQuantizedGraph(distilled.graph, distilled.spec.image_size)
    wrapped.calibrate(data.train, data.preprocess, CPU)
    yield wrapped
    wrapped.remove()


def test_the_forward_pass_is_rounded_and_gradients_flow(rounded: FakeQuantizedGraph, images: Tensor) -> None:
    exact = rounded.graph
    rounded.train()
    logits, branches = rounded(images)
    rounded.remove()
    float_logits, float_branches = exact(images)
    for ours, theirs in ((logits, float_logits), (branches.attentive, float_branches.attentive)):
        assert 0 < (ours - theirs).abs().max() < 0.5 * theirs.abs().max()
    (logits.sum() + branches.attentive.sum() + sum(f.mean() for f in branches.features)).backward()
    trained = [(name, parameter) for name, parameter in exact.named_parameters() if parameter.requires_grad]
    for name, parameter in trained:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    convolutions = [m for m in exact.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.weight.grad is not None and m.weight.grad.abs().sum() > 0 for m in convolutions)


def test_layers_see_integers_times_a_scale(rounded: FakeQuantizedGraph, images: Tensor) -> None:
    """Of every layer: at most 255 values in, and 255 weights for each output channel."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def look(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            seen[name] = (inputs[0].detach(), module.weight.detach().clone())

        rounded.graph.get_submodule(name).register_forward_hook(hook)

    layers = [n for n, m in rounded.graph.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for name in layers:
        look(name)
    rounded.eval()
    rounded(images)
    assert list(seen.keys() ^ set(layers)) == []
    for index, name in enumerate(layers):
        values, weight = seen[name]
        steps = values / rounded.inputs[index].scale
        assert torch.allclose(steps, steps.round(), atol=1e-3), name
        assert steps.abs().max() <= 127.001
        own = rounded.graph.get_parameter(f"{name}.weight").detach()
        scale = own.abs().flatten(1).amax(1).reshape(-1, *[1] * (own.dim() - 1)) / 127
        steps = weight / scale
        assert torch.allclose(steps, steps.round(), atol=1e-3), name
        assert ((weight - own).abs() <= 0.501 * scale).all(), name
        assert not torch.equal(weight, own), name


def test_rounding_before_batch_norm_is_folded_is_rounding_after() -> None:
    torch.manual_seed(0)
    fake_quantize, observer = require_torchao()
    quantizer = fake_quantize.FakeQuantize(
        observer=observer.MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, quant_min=-127,
        quant_max=127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0,
    )  # fmt: skip
    weight, factor = torch.randn(8, 4, 3, 3), torch.randn(8).reshape(8, 1, 1, 1)
    assert (factor < 0).any()
    before, after = quantizer(weight) * factor, quantizer(weight * factor)
    assert torch.allclose(before, after, atol=1e-6)


def test_ranges_follow_in_training_and_stand_still_in_evaluation(
    rounded: FakeQuantizedGraph, images: Tensor
) -> None:
    statistics = {n: t.clone() for n, t in rounded.graph.state_dict().items() if "running" in n}

    def scales() -> list[float]:
        return [float(quantizer.scale) for quantizer in rounded.inputs]

    rounded.eval()
    calibrated = scales()
    rounded(images * 5)
    assert scales() == calibrated
    rounded.train()
    rounded(images * 5)
    assert scales() != calibrated
    rounded.eval()
    # Batch norm keeps its statistics in either mode.
    assert statistics
    for name, tensor in statistics.items():
        assert torch.equal(rounded.graph.get_buffer(name), tensor), name


def test_nothing_is_left_behind(distilled: Distilled, data: DataSet, images: Tensor) -> None:
    graph = distilled.graph
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    expected = graph(images)[0]
    wrapped = FakeQuantizedGraph(graph, distilled.spec.image_size)
    wrapped.calibrate(data.train, data.preprocess, CPU)
    assert not torch.equal(wrapped(images)[0], expected)
    assert len(list(wrapped.parameters())) == len(list(graph.parameters()))
    wrapped.remove()
    assert torch.equal(graph(images)[0], expected)
    assert list(graph.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in graph.state_dict().items())


def test_it_runs_under_autocast(rounded: FakeQuantizedGraph, images: Tensor) -> None:
    expected = rounded(images)[0]
    with torch.autocast("cpu", torch.bfloat16):
        logits = rounded(images)[0]
    # What bfloat16 rounds may land on the next step of a grid: one logit may move far, all together not.
    assert (logits.float() - expected).norm() < 0.4 * expected.norm()


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("mobilenetv2", {"features.3.conv.3", "features.16.conv.3"}),
        ("resnet18", {"layer1.0.bn2", "layer2.0.downsample.1"}),  # adds in place
        ("resnet8", {"layer1.0.bn2", "layer3.0.downsample.1"}),
        ("shufflenetv2", set()),  # every map goes through a ReLU
    ],
)
def test_summands_are_found(name: str, some: set[str]) -> None:
    model = build_model(ModelSpec.for_images(name, 3, 32))
    found = find_summands(model, 32)
    assert some <= set(found)
    assert bool(found) == bool(some)
    for place in found:
        assert isinstance(model.get_submodule(place), nn.BatchNorm2d)
    # Not followed by anything but the addition: no expansion, no first batch norm of a block.
    assert not {"features.0.1", "features.3.conv.0.1", "bn1", "layer1.0.bn1"} & set(found)


def test_without_torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    with pytest.raises(ImfDeployError, match="pip install 'torchao"):
        require_torchao()
