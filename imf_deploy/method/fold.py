"""``imf@k``: the first k blocks and IFDs, with the attentive logit folded into one linear layer."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from imf_deploy.method.branches import ImfBranches, pool
from imf_deploy.method.ifd import make_ifds
from imf_deploy.models import Block, to_map, truncate
from imf_deploy.records.making import IfdShape


class FoldedImf(nn.Module):
    """``[N, C, H, W]`` -> logits ``[N, classes]``, without any operator of the attention.

    Args:
        student: The architecture to cut; the cut shares its parameters.
        blocks: The first k of its blocks.
        shapes: How the IFD of each is built.
        num_classes: Number of logits.
    """

    def __init__(
        self,
        student: nn.Module,
        blocks: Sequence[Block],
        shapes: Sequence[IfdShape],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.blocks = list(blocks)
        self.trunk = truncate(student, list(blocks))
        self.ifds = make_ifds(blocks, shapes)
        self.classifier = nn.Linear(sum(shape.outputs for shape in shapes), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Run the trunk, every IFD, and the one linear layer over all pooled features."""
        return cast(Tensor, self.classifier(torch.cat(self.pooled(images), 1)))

    def pooled(self, images: Tensor) -> list[Tensor]:
        """Return the pooled features of every IFD, ``[N, outputs]`` each."""
        taps = self.trunk(images)
        return [
            pool(ifd(to_map(block, taps[block.name])))
            for block, ifd in zip(self.blocks, self.ifds, strict=True)
        ]


@torch.no_grad()
def folded_classifier(branches: ImfBranches, k: int) -> tuple[Tensor, Tensor]:
    """Fold the attentive logit over the first ``k`` branches into one linear layer (ours).

    If that layer was re-fitted after training, it is used as it is. Otherwise, the attentive weights are
    constants after training, so ``sum_i w_i,c (W_i f_i + b_i)_c`` is one linear map of the concatenated
    pooled features: row ``c`` of ``W_i`` is scaled by ``w_i,c``.

    Returns:
        Weight ``[classes, k * channels]`` and bias ``[classes]``, computed in double precision.
    """
    if fitted := branches.prefix_head(k):
        return fitted.weight, fitted.bias
    weights = branches.weights(k).double()
    heads = [head for head in branches.heads[:k] if isinstance(head, nn.Linear)]
    weight = torch.cat([w[:, None] * head.weight.double() for w, head in zip(weights, heads, strict=True)], 1)
    bias = torch.stack([w * head.bias.double() for w, head in zip(weights, heads, strict=True)]).sum(0)
    return weight.float(), bias.float()


@torch.no_grad()
def fold(student: nn.Module, branches: ImfBranches, blocks: Sequence[Block], k: int) -> FoldedImf:
    """Make ``imf@k`` from a trained student and its branches.

    Args:
        student: Trained student; not changed.
        branches: Trained branches for all of its blocks; not changed.
        blocks: All of its blocks.
        k: Number of blocks to keep, from 1 to all.
    """
    folded = FoldedImf(student, blocks[:k], branches.shapes[:k], branches.classes)
    folded.ifds.load_state_dict(
        {n: t for n, t in branches.ifds.state_dict().items() if int(n.split(".")[0]) < k}
    )
    weight, bias = folded_classifier(branches, k)
    folded.classifier.weight.copy_(weight)
    folded.classifier.bias.copy_(bias)
    return folded.eval()
