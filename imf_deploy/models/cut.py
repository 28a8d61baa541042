"""Cut a network after one of its blocks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from imf_deploy.errors import ImfDeployError
from imf_deploy.models.blocks import in_evaluation
from imf_deploy.records.making import Block


class _Tracer(fx.Tracer):
    """Follows the code of the modules around the taps; every other module is one step."""

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self._around = {tap[:end] for tap in taps for end, sign in enumerate(tap) if sign == "."}
        self._taps = set(taps)
        self.tapped: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._around

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        name = self.path_of_module(m)
        if name in self._taps and isinstance(output, fx.Proxy):
            self.tapped[name] = output.node
        return output


def truncate(model: nn.Module, blocks: list[Block]) -> nn.Module:
    """Cut a network after the last of ``blocks``, without the modules that come later.

    Only the code around the blocks is traced (torch.fx); code inside a block, or inside the head, may branch
    freely. Parameters keep their names; they are shared with ``model``, not copied. The result is for
    evaluation
    only: branches that depend on the mode are those of evaluation.

    Returns:
        A module that maps images to a dict from each block's name to its output.

    Raises:
        ImfDeployError: torch.fx cannot trace the network, or does not find a block.
    """
    names = [block.name for block in blocks]
    tracer = _Tracer(names)
    # Tracing reads flags such as training; the caller's network is not changed.
    try:
        with in_evaluation(model):
            graph = tracer.trace(model)
            _end_after(graph, {block: tracer.tapped[block.name] for block in blocks})
            whole = fx.GraphModule(model, graph)
            whole.graph.eliminate_dead_code()
        # A new module is built, so that only what it uses is copied.
        return fx.GraphModule(whole, whole.graph, f"{type(model).__name__}UpTo{len(blocks)}")
    except Exception as error:  # the traced code may raise anything
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ImfDeployError(
            f"cannot cut {type(model).__name__} after {names[-1]} ({reason})",
            "Use `products` plain, or other taps with `student_taps`",
        ) from error


def _end_after(graph: fx.Graph, taps: dict[Block, fx.Node]) -> None:
    """Let a graph output the taps, and remove what comes later."""
    wanted = {}
    for block, node in taps.items():
        wanted[block.name] = node
        if block.overwritten:
            with graph.inserting_after(node):
                wanted[block.name] = graph.call_function(torch.clone, (node,))
    nodes = list(graph.nodes)
    last = max(nodes.index(node) for node in wanted.values())
    graph.erase_node(nodes[-1])
    for node in reversed(nodes[last + 1 : -1]):
        graph.erase_node(node)
    graph.output(wanted)
