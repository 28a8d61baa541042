"""Fake quantisation of a training graph from outside: the graph, its keys and its hooks do not change.

torchao does the rounding: it is one wheel without dependencies, and its ``FakeQuantize`` modules work in
eager mode. NVIDIA's ``nvidia-modelopt`` converts convolutions by itself, but depends on scipy, pulp and nine
more packages, and its 0.47 cannot be imported with those alone (it also needs ``requests``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.data import Split, eval_batches
from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.image_size import ImageSize
from imf_deploy.method.branches import BranchOutputs, TrainingGraph
from imf_deploy.models.blocks import probe
from imf_deploy.preprocess import Preprocess

LIMIT = 127
"""Both ends of the integers: -128 is not used, as in the INT8 files."""
_LAYERS = (nn.Conv2d, nn.Linear)
_SUMMANDS = (nn.Conv2d, nn.BatchNorm2d)
_PASSING = (nn.Identity, nn.Dropout)


def require_torchao() -> tuple[Any, Any]:
    """Return torchao's modules ``pt2e.fake_quantize`` and ``pt2e.observer``.

    Raises:
        ImfDeployError: the modules are missing, or do not fit the installed PyTorch.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it calls a deprecated function of PyTorch
    try:
        from torchao.quantization.pt2e import fake_quantize, observer
    except Exception as error:  # a build for another PyTorch may raise anything
        raise ImfDeployError(
            f"quantisation-aware training needs torchao, which cannot be imported ({first_line(error)})",
            "Type: pip install 'torchao>=0.14', or leave out `qat_epochs`",
        ) from error
    finally:
        logging.disable(before)
    return fake_quantize, observer


class FakeQuantizedGraph(nn.Module):
    """A training graph whose forward pass rounds like an INT8 file, with straight-through gradients.

    It rounds what :mod:`imf_deploy.calib.quantize` writes as INT8. This includes the weights of every
    convolution and linear layer: int8, symmetric, one scale for each output channel. (Batch norm scales whole
    channels, so rounding before it is folded is the same as rounding after.) It also includes, with one scale
    per tensor, the inputs of those layers. TensorRT's form quantises nothing else. ONNX Runtime's form also
    quantises summands, so inputs that an addition or a concatenation reads directly from a convolution or a
    batch norm are also rounded. Activations are symmetric int8 for both: after a ReLU that is half as fine as
    the other form's uint8, and a network that tolerates it tolerates both. Logits stay float.

    Ranges of activations are moving averages of each batch's extremes, and are frozen in evaluation mode.
    Statistics of batch norm are always frozen, because INT8 files have them folded into weights. Source:
    Jacob et al. 2018; the gradient is the straight-through estimator, Bengio et al. 2013.

    Args:
        graph: Student and branches; it gets hooks, which :meth:`remove` removes.
        image_size: Size of its images.

    Raises:
        ImfDeployError: torchao cannot be used, or the graph cannot run on such images.
    """

    def __init__(self, graph: TrainingGraph, image_size: ImageSize) -> None:
        super().__init__()
        fake_quantize, observer = require_torchao()
        activation = fake_quantize.FakeQuantize.with_args(
            observer=observer.MovingAverageMinMaxObserver,
            quant_min=-LIMIT,
            quant_max=LIMIT,
            dtype=torch.qint8,
            qscheme=torch.per_tensor_symmetric,
        )
        weight = fake_quantize.FakeQuantize.with_args(
            observer=observer.MovingAveragePerChannelMinMaxObserver,
            averaging_constant=1.0,  # the current weights
            quant_min=-LIMIT,
            quant_max=LIMIT,
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
        )
        layers = {name: module for name, module in graph.named_modules() if isinstance(module, _LAYERS)}
        summands = find_summands(graph, image_size)
        self.graph = graph
        self._weight_names = [f"{name}.weight" for name in layers]
        self.weights = nn.ModuleList(weight() for _ in layers)
        self.inputs = nn.ModuleList(activation() for _ in layers)
        self.summands = nn.ModuleList(activation() for _ in summands)
        self._hooks = [
            layer.register_forward_pre_hook(_round_input(quantizer))
            for layer, quantizer in zip(layers.values(), self.inputs, strict=True)
        ]
        self._hooks += [
            # These hooks come before those that tap a block, so that branches see the same values as the next
            # block.
            graph.get_submodule(name).register_forward_hook(_round_output(quantizer), prepend=True)
            for name, quantizer in zip(summands, self.summands, strict=True)
        ]

    def forward(self, images: Tensor) -> tuple[Tensor, BranchOutputs]:
        """``[N, C, H, W]`` -> the outputs of the graph with rounded weights and activations."""
        rounded = {
            name: quantizer(self.graph.get_parameter(name))
            for name, quantizer in zip(self._weight_names, self.weights, strict=True)
        }
        result: tuple[Tensor, BranchOutputs] = torch.func.functional_call(self.graph, rounded, (images,))
        return result

    def train(self, mode: bool = True) -> FakeQuantizedGraph:
        """Switch modes; batch norm keeps its statistics, and ranges are updated only in training mode."""
        super().train(mode)
        for module in self.graph.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        self._observe(mode)
        return self

    @torch.no_grad()
    def calibrate(self, images: Split, preprocess: Preprocess, device: torch.device) -> None:
        """Set the ranges of activations to the mean extremes of the float graph's batches.

        Args:
            images: Training images; they are read once.
            preprocess: How they are prepared as input.
            device: Device of the graph.
        """
        self.eval()
        self._observe(True)
        self._round(False)
        for index, (batch, _) in enumerate(eval_batches(images, preprocess, 64)):
            for quantizer in (*self.inputs, *self.summands):
                quantizer.activation_post_process.averaging_constant = 1 / (index + 1)
            self(batch.to(device))
        for quantizer in (*self.inputs, *self.summands):
            quantizer.activation_post_process.averaging_constant = 0.01
        self._round(True)
        self._observe(False)

    def remove(self) -> None:
        """Remove the hooks from the graph."""
        for hook in self._hooks:
            hook.remove()

    def _observe(self, wanted: bool) -> None:
        for quantizer in (*self.inputs, *self.summands):
            quantizer.enable_observer(wanted)

    def _round(self, wanted: bool) -> None:
        for quantizer in (*self.inputs, *self.summands, *self.weights):
            quantizer.enable_fake_quant(wanted)


def find_summands(graph: nn.Module, image_size: ImageSize) -> list[str]:
    """Return the convolutions and batch norms whose maps no other module reads, in order.

    Their maps go directly into an addition or a concatenation, which is not a module. (Neither is a
    functional
    ReLU: there, a map is rounded that the file does not round, and training is harder than necessary.) The
        graph is run once; the path of each tensor is observed from outside (ours).

    Args:
        graph: Any network; not changed.
        image_size: Size of its images.
    """
    names = {module: name for name, module in graph.named_modules() if not list(module.children())}
    # Tensors are kept, so that their ids are not reused; their version reveals an in-place addition.
    made: dict[int, tuple[str, Tensor, int]] = {}
    taken: set[int] = set()

    def note_inputs(module: nn.Module, inputs: tuple[object, ...]) -> None:
        for value in inputs:
            known = made.get(id(value))
            if known and known[1]._version == known[2] and not isinstance(module, _PASSING):
                taken.add(id(value))

    def note_output(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(module, _SUMMANDS) and isinstance(output, Tensor):
            made[id(output)] = (names[module], output, output._version)

    hooks = [module.register_forward_pre_hook(note_inputs) for module in names]
    hooks += [module.register_forward_hook(note_output) for module in names]
    try:
        probe(graph, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for key, (name, *_) in made.items() if key not in taken]


def _round_input(quantizer: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        # In float32 also under autocast: bfloat16 has no more digits than the grid.
        return (quantizer(inputs[0].float()),)

    return hook


def _round_output(quantizer: nn.Module) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        rounded: Tensor = quantizer(output.float())
        return rounded

    return hook
