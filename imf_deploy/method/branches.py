"""The branches of IMF and the attentive logit that combines them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.method.budget import full_shapes
from imf_deploy.method.ifd import IntermediateFeatureDistiller, make_ifds
from imf_deploy.models import Block, only_logits, to_map
from imf_deploy.models.blocks import hooked
from imf_deploy.records.making import IfdShape
from imf_deploy.settings import BranchSettings

Target = tuple[int, tuple[int, int]]
"""The target of a branch: the index of the teacher's map, and height and width that it is averaged to."""


def refining_units(design: BranchSettings, branches: int) -> list[int]:
    """Return how many refining units each branch's IFD has.

    One for each block that comes after its own, since it stands in for them, up to ``design.refining``.
    """
    return [min(design.refining, after) for after in reversed(range(branches))]


def branch_features(design: BranchSettings, teacher_blocks: Sequence[Block], branches: int) -> list[Block]:
    """Return the teacher's block that each branch learns, given all of them in order."""
    if design.match == "last":
        return [teacher_blocks[-1]] * branches
    count = len(teacher_blocks)
    return [teacher_blocks[-(-(i + 1) * count // branches) - 1] for i in range(branches)]


@dataclass(frozen=True)
class BranchOutputs:
    """The outputs of the branches of ``n`` blocks for a batch.

    Attributes:
        features: One map for each branch, ``[N, teacher channels, H_i, W_i]``: the output of its IFD, mapped
            to the teacher's channels if it has fewer.
        logits: Each branch's own logits ``z_i``, ``[n, N, classes]``.
        attentive: The attentive logit over the first ``k`` branches, for every ``k`` from 1 to ``n``: ``[n,
            N, classes]``. The last one is the paper's. In evaluation mode, the output of the re-fitted layer
            if there is one.
    """

    features: list[Tensor]
    logits: Tensor
    attentive: Tensor


class ImfBranches(nn.Module):
    """An IFD, a pooled linear head, and a row of per-class attentive weights for every block.

    ``z^(k)_c = sum over i <= k of softmax_i(a[:k, c])_i * z_i,c``. One learnable parameter per class and IFD
    is the paper's; the softmax, the start at equal weights, and training every prefix ``k`` are ours. If it
    was re-fitted after training, one linear layer on the pooled features of the first ``k`` branches replaces
    the attentive logit (:mod:`imf_deploy.method.refit`, ours).

    Args:
        blocks: The student's blocks.
        teacher_features: The teacher's feature map that each branch learns.
        num_classes: Number of logits.
        design: What the attentive logit learns.
        shapes: How the IFDs are built; by default, without a limit to their size.
        members: Number of branches that an ``imf@k`` may keep; by default all.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        teacher_features: Sequence[Block],
        num_classes: int,
        design: BranchSettings = BranchSettings(),  # noqa: B008, frozen
        shapes: Sequence[IfdShape] = (),
        members: int | None = None,
    ) -> None:
        super().__init__()
        units = refining_units(design, len(blocks))
        self.shapes = list(shapes) or full_shapes(blocks, teacher_features, units)
        self.members = len(blocks) if members is None else members
        self.ifds = make_ifds(blocks, self.shapes)
        self.heads = nn.ModuleList(nn.Linear(shape.outputs, num_classes) for shape in self.shapes)
        self.projectors = nn.ModuleList(
            nn.Identity()
            if shape.outputs == feature.channels
            else nn.Conv2d(shape.outputs, feature.channels, 1, bias=False)
            for shape, feature in zip(self.shapes, teacher_features, strict=True)
        )
        self.classes = num_classes
        columns = num_classes if design.attention == "class" else 1
        learned = design.attention != "mean"
        self.attention = nn.Parameter(torch.zeros(len(blocks), columns), requires_grad=learned)
        self._widths = [shape.outputs for shape in self.shapes]
        self.prefix_heads = nn.ModuleDict()

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Height and width of the map that each branch outputs."""
        return [ifd.sides for ifd in self.ifds if isinstance(ifd, IntermediateFeatureDistiller)]

    def weights(self, k: int) -> Tensor:
        """Return the attentive weights of the first ``k`` branches, ``[k, classes]``; columns sum to 1."""
        return self.attention[:k].softmax(0).expand(k, self.classes)

    def prefix_head(self, k: int) -> nn.Linear | None:
        """Return the layer that was re-fitted for the first ``k`` branches, or ``None``."""
        head = dict(self.prefix_heads.items()).get(str(k - 1))
        return head if isinstance(head, nn.Linear) else None

    def add_prefix_head(self, k: int) -> nn.Linear:
        """Add a layer that replaces the attentive logit of the first ``k`` branches, and return it.

        It is created when needed: with many classes it is larger than all other layers.
        """
        head = nn.Linear(sum(self._widths[:k]), self.classes, device=self.attention.device)
        self.prefix_heads[str(k - 1)] = head.requires_grad_(False)
        return head

    def make_room(self, names: Iterable[str]) -> None:
        """Add the layers for which a file has tensors, named as in ``state_dict``; remove all others.

        Raises:
            ValueError: a name is for a branch that does not exist.
        """
        wanted = {name.split(".")[1] for name in names if name.startswith("prefix_heads.")}
        self.prefix_heads.clear()
        own = {str(index): index for index in range(len(self._widths))}
        if unknown := wanted - own.keys():
            raise ValueError(f"there is no branch {min(unknown)}")
        for index in sorted(own[name] for name in wanted):
            self.add_prefix_head(index + 1)

    def forward(self, taps: Sequence[Tensor]) -> BranchOutputs:
        """Run every branch on its block's output, ``[N, C_i, H_i, W_i]`` each."""
        maps = [ifd(tap) for ifd, tap in zip(self.ifds, taps, strict=True)]
        pooled = [_TrainingPool.apply(f) if torch.is_grad_enabled() else pool(f) for f in maps]
        features = [projector(f) for projector, f in zip(self.projectors, maps, strict=True)]
        logits = torch.stack([head(p) for head, p in zip(self.heads, pooled, strict=True)])
        prefixes = range(1, len(features) + 1)
        if not self.training and self.prefix_heads:
            return BranchOutputs(features, logits, torch.stack([self.deployed(pooled[:k]) for k in prefixes]))
        return BranchOutputs(features, logits, torch.stack([self._attentive(logits, k) for k in prefixes]))

    def _attentive(self, logits: Tensor, k: int) -> Tensor:
        return (self.weights(k)[:, None] * logits[:k]).sum(0)

    def deployed(self, pooled: Sequence[Tensor]) -> Tensor:
        """Return the output of the first ``k`` branches at inference, not folded: ``[N, classes]``.

        Args:
            pooled: Their pooled features, ``[N, C_i]`` each. If their layer was re-fitted, it receives all of
                them; otherwise each goes into its own head, and the attentive weights combine the results.
        """
        k = len(pooled)
        if head := self.prefix_head(k):
            return cast(Tensor, head(torch.cat([*pooled], 1)))
        own = [head(its) for head, its in zip(self.heads[:k], pooled, strict=True)]
        return self._attentive(torch.stack(own), k)


def pool(features: Tensor) -> Tensor:
    """Global average pooling: ``[N, C, H, W]`` -> ``[N, C]``."""
    return functional.adaptive_avg_pool2d(features, 1).flatten(1)


class _TrainingPool(torch.autograd.Function):
    """:func:`pool` whose gradient has the memory layout of its input.

    PyTorch's own may differ, and the layers after it in the backward pass are slow with mixed layouts.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.like = features.shape, features.is_contiguous(memory_format=torch.channels_last)
        return pool(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        shape, channels_last = ctx.like
        even: Tensor = (gradient / (shape[2] * shape[3]))[:, :, None, None].expand(shape)
        return even.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


class Taps:
    """Collects the outputs of blocks of a network, from outside the network.

    Hooks are on the network only while it runs, so that it can be copied, pickled and deployed at any time.

    Args:
        model: The network; it is not changed.
        blocks: Where to tap.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[Block]) -> None:
        self._model = model
        self._blocks = list(blocks)
        self.names = [block.name for block in blocks]

    def run(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the network; return its logits ``[N, classes]`` and the tapped maps ``[N, C, H, W]``, in order.

        Raises:
            ImfDeployError: it outputs anything but logits, such as a tuple in training mode.
        """
        seen: dict[str, Tensor] = {}

        def keep(block: Block, _module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[block.name] = to_map(block, output.clone() if block.overwritten else output)

        modules = ((block, self._model.get_submodule(block.name)) for block in self._blocks)
        with hooked(module.register_forward_hook(partial(keep, block)) for block, module in modules):
            logits = only_logits(self._model, self._model(images))
        return logits, [seen[name] for name in self.names]


class TrainingGraph(nn.Module):
    """A student with IMF branches next to it: ``student.*`` and ``imf.*`` in the ``state_dict``.

    Args:
        student: The library's own module; it is not changed.
        blocks: Its blocks.
        branches: One branch for each block.
    """

    def __init__(self, student: nn.Module, blocks: Sequence[Block], branches: ImfBranches) -> None:
        super().__init__()
        self.student = student
        self.imf = branches
        self._taps = Taps(student, blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, BranchOutputs]:
        """``[N, C, H, W]`` -> the student's own logits and the outputs of the branches."""
        logits, taps = self._taps.run(images)
        return logits, self.imf(taps)

    def pooled(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the student's own logits, and the pooled features of the branches that are deployed.

        Args:
            images: ``[N, C, H, W]``.

        Returns:
            ``[N, classes]``, and ``[N, C_i]`` for each branch that an ``imf@k`` may keep.
        """
        logits, taps = self._taps.run(images)
        return logits, [pool(self.imf.ifds[index](taps[index])) for index in range(self.imf.members)]
