"""Find the blocks of a network: the places whose features can be tapped."""

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import ImageSize, pixels_text, shape_of
from imf_deploy.models.maps import PREFIXES, map_of
from imf_deploy.records.making import Block


def to_map(block: Block, output: Tensor) -> Tensor:
    """Return the output of a block as a feature map ``[N, C, H, W]``.

    Tokens before the map (a class token, registers) are dropped.
    """
    if block.layout == "nchw":
        return output
    if block.layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    height, width = block.sides
    tokens = output[:, -height * width :].transpose(1, 2)
    # With len(), an export would treat the batch size as a constant.
    return tokens.reshape(tokens.shape[0], block.channels, height, width)


@dataclass(frozen=True)
class _Call:
    """The output of one module in a run of the network.

    Attributes:
        block: The block that it would be.
        arriving: Number of positions of the map that it received; 0 if it received none.
        stem: Whether it runs before the second convolution.
        calls: Number of times that it ran.
    """

    block: Block
    arriving: int
    stem: bool
    calls: int

    @property
    def depth(self) -> int:
        """Its distance from the root of the module tree."""
        return self.block.name.count(".")

    @property
    def area(self) -> int:
        """Number of positions of its map."""
        return math.prod(self.block.sides)


def find_blocks(model: nn.Module, image_size: ImageSize, taps: Sequence[str] = ()) -> list[Block]:
    """Return the blocks of a network, in the order in which they run.

    If a network of timm declares which modules end its stages (``feature_info``), those are used. Otherwise
    (our own rule) the network is run once. At each resolution, of the modules that output a map in the
    proportions of the image, those nearest the root of the module tree are the network's own blocks or
    stages; deeper ones are parts of a block, such as the expansion at the start of the next one. The last of
    the blocks at each resolution is tapped. A resolution that only the first convolution has seen is a stem,
    not a block. Nor is a resolution that occurs only inside the block that reduces it. A network without maps
    (a vision transformer) is tapped where its last tokens or channels-last features are output.

    Args:
        model: Any network that maps images ``[N, C, H, W]`` to logits; not changed.
        image_size: Size of the images.
        taps: Paths of modules to tap instead of those that are found.

    Raises:
        UsageError: a tap does not exist, or its output is not a feature map.
        ImfDeployError: no features are found, or the network cannot run.
    """
    calls = _run(model, image_size)
    if taps:
        return _named(model, calls, taps)
    once = [call for call in calls.values() if call.calls == 1]
    maps = [c for c in once if c.block.layout == "nchw" and not c.stem and not _inside_a_step(c, calls)]
    declared = _feature_modules(model)
    ways: list[tuple[list[_Call], bool]] = [
        ([call for call in maps if call.block.name in declared], False),
        (maps, True),
        *(([c for c in once if c.block.layout == layout], True) for layout in ("nhwc", "tokens")),
    ]
    for candidates, by_depth in ways:
        if blocks := _last_of_each_size(candidates, by_depth):
            return blocks
    raise ImfDeployError(
        f"no blocks found in {type(model).__name__}",
        "Choose a convolutional network, or name the modules to tap: `student_taps`, `teacher_tap`",
    )


def earlier_blocks(
    model: nn.Module, image_size: ImageSize, block: Block, after: Sequence[Block]
) -> list[Block]:
    """Return the places before a block whose maps have its resolution, nearest the root of the tree first.

    Args:
        model: The network; not changed.
        image_size: Size of its input.
        block: A block of it.
        after: Blocks that end before all of these places.

    Returns:
        Of places at the same distance from the root, those that end later come first.
    """
    calls = list(_run(model, image_size).values())
    names = [call.block.name for call in calls]
    first = max((names.index(other.name) + 1 for other in after), default=0)
    alike = [
        call
        for call in calls[first : names.index(block.name)]
        if call.calls == 1
        and not (call.stem and block.layout == "nchw")
        and (call.block.size, call.block.layout) == (block.size, block.layout)
    ]
    alike.reverse()
    return [call.block for call in sorted(alike, key=lambda call: call.depth)]


def _inside_a_step(call: _Call, calls: dict[str, _Call]) -> bool:
    """Return whether the map is inside a block that reduces its resolution by one step."""
    area, parts = call.area, call.block.name.split(".")
    around = (calls.get(".".join(parts[:end])) for end in range(1, len(parts)))
    # Larger steps are those of a whole trunk.
    return any(a and a.arriving == area and a.area < area < 9 * a.area for a in around)


def _last_of_each_size(calls: Iterable[_Call], by_depth: bool) -> list[Block]:
    by_area: dict[int, _Call] = {}
    for call in calls:
        area = call.area
        # 1x1 is the pooled head. A larger map follows an adaptive pooling that stretches.
        if area == 1 or area > min(by_area, default=area):
            continue
        known = by_area.get(area)
        if known is None or not by_depth or call.depth <= known.depth:
            by_area[area] = call
    return [by_area[area].block for area in sorted(by_area, reverse=True)]


def _named(model: nn.Module, calls: dict[str, _Call], taps: Sequence[str]) -> list[Block]:
    modules = {name for name, _ in model.named_modules() if name}
    for tap in taps:
        if tap not in modules:
            near = difflib.get_close_matches(tap, calls, 3, 0.4) or list(calls)[-3:]
            raise UsageError(
                f"{type(model).__name__} has no module '{tap}' to tap", f"Similar names: {', '.join(near)}"
            )
        if tap not in calls:
            raise UsageError(
                f"'{tap}' of {type(model).__name__} does not output a feature map",
                f"For example, tap {', '.join(list(calls)[-3:])}",
            )
        if calls[tap].calls > 1:
            raise UsageError(
                f"'{tap}' of {type(model).__name__} runs {calls[tap].calls} times for one image",
                "Tap the module that contains it",
            )
    return [call.block for name, call in calls.items() if name in set(taps)]


def _feature_modules(model: nn.Module) -> set[str]:
    """Return the modules that timm's own feature info names; empty for other networks."""
    info: Any = getattr(model, "feature_info", None)
    info = getattr(info, "info", info)
    if not isinstance(info, list) or not all(isinstance(entry, dict) for entry in info):
        return set()
    return {str(entry["module"]) for entry in info if "module" in entry}


def _run(model: nn.Module, image_size: ImageSize) -> dict[str, _Call]:
    """Run the network once; return the outputs that can be tapped, by module and in order."""
    names = {module: name for name, module in model.named_modules()}
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    prefixes = (prefix,) if isinstance(prefix, int) else PREFIXES
    image = shape_of(image_size)[1:]
    seen: dict[str, tuple[Block, Tensor, int, int, bool]] = {}
    counts: dict[str, int] = {}
    convolutions = 0

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal convolutions
        convolutions += isinstance(module, nn.Conv2d)
        name = names[module]
        block = map_of(name, output, image, prefixes)
        if block and name and isinstance(output, Tensor):
            counts[name] = counts.get(name, 0) + 1
            seen.pop(name, None)  # the last call counts, and decides the order
            given = map_of(name, inputs[0] if inputs else None, image, PREFIXES)
            arriving = math.prod(given.sides) if given else 0
            seen[name] = (block, output, output._version, arriving, convolutions < 2)

    def note_image(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal image
        image = inputs[0].shape[2], inputs[0].shape[3]

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    # A hook that was added before may give the network images of another size.
    with hooked([*hooks, model.register_forward_pre_hook(note_image)]):
        probe(model, image_size)
    return {
        name: _Call(replace(block, overwritten=output._version != version), arriving, stem, counts[name])
        for name, (block, output, version, arriving, stem) in seen.items()
    }


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network: that of its first parameter or buffer, or the CPU."""
    tensor = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, and restore the mode of each of its modules."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end of a ``with`` block, whatever happens in it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield


def probe(model: nn.Module, image_size: ImageSize) -> Any:
    """Run a network once in evaluation mode, on its own device, and return its output.

    Args:
        model: The network; its mode is restored.
        image_size: Size of a black image.

    Raises:
        ImfDeployError: the network cannot run on images of this size.
    """
    try:
        # Inference mode would not keep the versions by which in-place changes are detected.
        with torch.inference_mode(False), torch.no_grad(), in_evaluation(model):
            return model(torch.zeros(1, *shape_of(image_size), device=device_of(model)))
    except Exception as error:  # the network's own code may raise anything
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ImfDeployError(
            f"{type(model).__name__} cannot run on images of {pixels_text(image_size)} ({reason})",
            "Choose another network, or another `image_size`",
        ) from error


def only_logits(network: nn.Module, output: object) -> Tensor:
    """Return a network's output if it is a single tensor of logits ``[N, classes]``.

    Raises:
        ImfDeployError: the output is a tuple, such as with auxiliary heads in training, or has another shape.
    """
    if isinstance(output, Tensor) and output.dim() == 2:
        return output
    got = f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    mode = "training" if network.training else "evaluation"
    raise ImfDeployError(
        f"{type(network).__name__} outputs {got} in {mode} mode, not a tensor of logits [N, classes]",
        "Choose a network without auxiliary heads, or a package.module:factory that leaves them out",
    )
