"""Find the blocks of a network: the places whose features can be tapped."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.making import Block


def to_map(block: Block, output: Tensor) -> Tensor:
    """Return what a block put out as a map of features ``[N, C, H, W]``.

    Tokens before the map (a class token, registers) are dropped.
    """
    if block.layout == "nchw":
        return output
    if block.layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    tokens = output[:, -block.size * block.size :].transpose(1, 2)
    # Not len(): an export would take the batch for a constant.
    return tokens.reshape(tokens.shape[0], block.channels, block.size, block.size)


@dataclass(frozen=True)
class _Call:
    """One module's answer in a run of the network.

    Attributes:
        block: What it would be as a block.
        arriving: Height and width of the map that it was given; 0 where it was given none.
        stem: Whether it comes before the second convolution.
        calls: How often it ran.
    """

    block: Block
    arriving: int
    stem: bool
    calls: int

    @property
    def depth(self) -> int:
        """How far it is from the root of the module tree."""
        return self.block.name.count(".")


def find_blocks(model: nn.Module, image_size: int, taps: Sequence[str] = ()) -> list[Block]:
    """Return the blocks of a network, in the order in which they run.

    Where a network of timm says itself which modules end its stages (``feature_info``), those are
    taken, and otherwise (ours) the network is run once: at each resolution, of the modules that
    answer with a square map, those nearest the root of the module tree are the network's own
    blocks or stages; deeper ones are parts of a block, such as the expansion at the start of the
    next one. The last of the blocks at each resolution is tapped. A resolution that only the first
    convolution has seen is a stem, not a block, nor is one that is met only inside the block that
    leaves it. A network without maps (a vision transformer) is tapped where its tokens, or its
    channels-last features, come out last.

    Args:
        model: Any network that maps ``[N, 3, S, S]`` to logits; not changed.
        image_size: ``S`` in pixels.
        taps: Paths of modules to tap in place of what is found.

    Raises:
        UsageError: a tap that is not there, or whose output is no map of features.
        ImfDeployError: no features are found, or the network cannot run.
    """
    calls = _run(model, image_size)
    if taps:
        return _named(model, calls, taps)
    once = [call for call in calls.values() if call.calls == 1]
    maps = [c for c in once if c.block.layout == "nchw" and not c.stem and not _inside_a_step(c, calls)]
    told = _feature_modules(model)
    ways: list[tuple[list[_Call], bool]] = [
        ([call for call in maps if call.block.name in told], False),
        (maps, True),
        *(([c for c in once if c.block.layout == layout], True) for layout in ("nhwc", "tokens")),
    ]
    for candidates, by_depth in ways:
        if blocks := _last_of_each_size(candidates, by_depth):
            return blocks
    raise ImfDeployError(
        f"no blocks found in {type(model).__name__}",
        "Choose a convolutional network, or name the modules to tap: --student-taps, --teacher-tap",
    )


def _inside_a_step(call: _Call, calls: dict[str, _Call]) -> bool:
    """Return whether the map is an inner one of a block that takes its resolution one step down."""
    size, parts = call.block.size, call.block.name.split(".")
    around = (calls.get(".".join(parts[:end])) for end in range(1, len(parts)))
    # Larger steps are those of a whole trunk.
    return any(a and a.arriving == size and a.block.size < size < 3 * a.block.size for a in around)


def _last_of_each_size(calls: Iterable[_Call], by_depth: bool) -> list[Block]:
    found: dict[int, _Call] = {}
    for call in calls:
        size = call.block.size
        # 1x1: the pooled head. Larger again: an adaptive pooling that stretches.
        if size == 1 or size > min(found, default=size):
            continue
        known = found.get(size)
        if known is None or not by_depth or call.depth <= known.depth:
            found[size] = call
    return [found[size].block for size in sorted(found, reverse=True)]


def _named(model: nn.Module, calls: dict[str, _Call], taps: Sequence[str]) -> list[Block]:
    modules = {name for name, _ in model.named_modules() if name}
    for tap in taps:
        if tap not in modules:
            near = difflib.get_close_matches(tap, calls, 3, 0.4) or list(calls)[-3:]
            raise UsageError(
                f"{type(model).__name__} has no module '{tap}' to tap", f"It has such as {', '.join(near)}"
            )
        if tap not in calls:
            raise UsageError(
                f"'{tap}' of {type(model).__name__} puts out no square map of features",
                f"Tap such as {', '.join(list(calls)[-3:])}",
            )
        if calls[tap].calls > 1:
            raise UsageError(
                f"'{tap}' of {type(model).__name__} runs {calls[tap].calls} times for one image",
                "Tap the module that holds it",
            )
    return [call.block for name, call in calls.items() if name in set(taps)]


def _feature_modules(model: nn.Module) -> set[str]:
    """Return the modules that timm's own record of features names; empty for other networks."""
    info: Any = getattr(model, "feature_info", None)
    info = getattr(info, "info", info)
    if not isinstance(info, list) or not all(isinstance(entry, dict) for entry in info):
        return set()
    return {str(entry["module"]) for entry in info if "module" in entry}


def _run(model: nn.Module, image_size: int) -> dict[str, _Call]:
    """Run the network once; return every module's answer that can be tapped, in order."""
    names = {module: name for name, module in model.named_modules()}
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    seen: dict[str, tuple[Block, Tensor, int, int, bool]] = {}
    counts: dict[str, int] = {}
    convolutions = 0

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal convolutions
        convolutions += isinstance(module, nn.Conv2d)
        name = names[module]
        block = _shape(name, output, prefix if isinstance(prefix, int) else None)
        if block and name and isinstance(output, Tensor):
            counts[name] = counts.get(name, 0) + 1
            seen.pop(name, None)  # the last call counts, and decides the order
            given = _shape(name, inputs[0] if inputs else None, None)
            seen[name] = (block, output, output._version, given.size if given else 0, convolutions < 2)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        probe(model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: _Call(
            Block(name, block.channels, block.size, block.layout, overwritten=output._version != version),
            arriving,
            stem,
            counts[name],
        )
        for name, (block, output, version, arriving, stem) in seen.items()
    }


def _shape(name: str, output: object, prefix: int | None) -> Block | None:
    """Read an output's layout off its shape; nothing where it is no square map of features."""
    if not isinstance(output, Tensor):
        return None
    shape = tuple(output.shape)
    if len(shape) == 4 and shape[2] == shape[3]:
        return Block(name, shape[1], shape[2])
    if len(shape) == 4 and shape[1] == shape[2]:
        return Block(name, shape[3], shape[1], "nhwc")
    if len(shape) == 3:
        # A class token, and DeiT's second one, come before the map.
        for extra in (0, 1, 2) if prefix is None else (prefix,):
            size = math.isqrt(max(shape[1] - extra, 0))
            if size and size * size == shape[1] - extra:
                return Block(name, shape[2], size, "tokens")
    return None


def device_of(model: nn.Module) -> torch.device:
    """Return the device that a network is on: that of its first parameter or buffer, or the CPU."""
    tensor = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def probe(model: nn.Module, image_size: int) -> Any:
    """Run a network once in evaluation mode, on its own device, and return what it puts out.

    Args:
        model: Left in the mode that it was in.
        image_size: Side of a black image in pixels.

    Raises:
        ImfDeployError: it cannot run on images of this size.
    """
    device = device_of(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Versions, by which a change in place shows, are not kept in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            return model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    except Exception as error:  # whatever the network's own code raises
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ImfDeployError(
            f"{type(model).__name__} cannot run on images of {image_size} pixels ({reason})",
            "Choose another network, or another --image-size",
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def only_logits(network: nn.Module, output: object) -> Tensor:
    """Return a network's output where it is logits ``[N, classes]`` alone.

    Raises:
        ImfDeployError: it is a tuple, such as that of auxiliary heads in training, or of another shape.
    """
    if isinstance(output, Tensor) and output.dim() == 2:
        return output
    got = f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    mode = "training" if network.training else "evaluation"
    raise ImfDeployError(
        f"{type(network).__name__} puts out {got} in {mode} mode, not logits [N, classes] alone",
        "Choose a network without auxiliary heads, or a package.module:factory that leaves them out",
    )
