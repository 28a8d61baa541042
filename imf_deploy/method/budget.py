"""Build branches so that no ``imf@k`` costs more than the student (ours; the paper promises as much)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from torch import nn

from imf_deploy.image_size import ImageSize
from imf_deploy.method.ifd import ifd_cost, refined_channels
from imf_deploy.models import Block, Cost, earlier_blocks, prefix_costs
from imf_deploy.records.making import IfdShape
from imf_deploy.settings import BranchSettings

ROOM = 0.1
"""Least part of the student's size that is left after the last block of an ``imf@k``, for its IFDs."""
NEAR = 0.75
"""Least part of the multiply-accumulates up to the latest place, for a place nearer the root."""
STEPS = 32
"""Number of widths that are tried for the IFDs."""
GROUP = 8
"""Narrowed maps have a multiple of this number of channels."""


@dataclass(frozen=True)
class Trunk:
    """The blocks of a student that branches are built on.

    Attributes:
        blocks: All of them, in order.
        members: Number of blocks, from the first, that an ``imf@k`` can end with. Branches on later blocks
            only help the training.
        costs: The student's cost up to each block.
        whole: The student's cost.
    """

    blocks: list[Block]
    members: int
    costs: list[Cost]
    whole: Cost


@dataclass(frozen=True)
class BranchPlan:
    """Where the branches of a student are, what they learn, and how they are built.

    Attributes:
        blocks: The student's blocks, in order.
        features: The teacher's block that each branch learns.
        shapes: How the IFD of each branch is built; empty builds them without a limit to their size.
        members: Number of branches that an ``imf@k`` may keep; ``None`` for all.
    """

    blocks: list[Block]
    features: list[Block]
    shapes: list[IfdShape] = field(default_factory=list)
    members: int | None = None


def find_trunk(
    student: nn.Module,
    image_size: ImageSize,
    classes: int,
    blocks: Sequence[Block],
    movable: bool,
    design: BranchSettings,
) -> Trunk:
    """Choose the blocks that branches are built on.

    An ``imf@k`` has the IFDs in place of the rest of the student, so its last block must leave them
    :data:`ROOM`. In place of a block that leaves none, an earlier place of the same resolution is chosen, the
    last one that leaves enough; of places that cost nearly the same, the one nearest the root of the module
    tree. A branch on the last block helps to train the student in any case.

    Args:
        student: The student; not changed.
        image_size: Size of its input.
        classes: Number of its logits.
        blocks: Its blocks, in order.
        movable: Whether another place may be chosen; not for blocks that were named by hand.
        design: Design of the branches.
    """
    whole, costs = prefix_costs(student, image_size)
    if not design.budget:
        return Trunk(list(blocks), len(blocks), [costs[block.name] for block in blocks], whole)

    def fits(kept: Sequence[Block], block: Block) -> bool:
        # Whatever the teacher is: the narrowest IFDs, at the blocks' own resolution.
        taken = [*kept, block]
        least = [IfdShape(GROUP, each.size, 0, GROUP) for each in taken]
        costly = costs[block.name] + _branches(taken, least, classes)[-1]
        return costs[block.name].within(whole, 1 - ROOM) and costly.within(whole, design.budget)

    kept: list[Block] = []
    for block in blocks:
        if not fits(kept, block):
            earlier = earlier_blocks(student, image_size, block, kept) if movable else []
            places = [place for place in earlier if fits(kept, place)]
            latest = max((costs[place.name].macs for place in places), default=0)
            kept += [place for place in places if costs[place.name].macs >= NEAR * latest][:1]
            break
        kept.append(block)
    members = len(kept)
    if blocks[-1] not in kept:
        kept.append(blocks[-1])
    return Trunk(kept, members, [costs[block.name] for block in kept], whole)


def full_shapes(
    blocks: Sequence[Block], features: Sequence[Block], refining: Sequence[int]
) -> list[IfdShape]:
    """Return IFDs of full width, which output what the teacher does."""
    return [
        IfdShape(feature.channels, feature.size, units, refined_channels(block.channels, feature.channels))
        for block, feature, units in zip(blocks, features, refining, strict=True)
    ]


def budgeted_shapes(
    trunk: Trunk, features: Sequence[Block], refining: Sequence[int], classes: int, design: BranchSettings
) -> list[IfdShape]:
    """Return the widest IFDs with which no ``imf@k`` costs more than the student.

    With many classes, a classifier on wide outputs would leave nothing for the IFDs: it may have half of the
    room after the last block. All branches are then narrowed by the same factor. If a quarter of the width is
    still too much, IFDs have fewer refining units.

    Args:
        trunk: Blocks, and the student's cost up to each.
        features: The teacher's block that each branch learns.
        refining: Refining units of each IFD of full size.
        classes: Number of logits.
        design: Design of the branches.
    """
    shapes = full_shapes(trunk.blocks, features, refining)
    if not design.budget or not trunk.members:
        return shapes
    room = design.budget * trunk.whole.parameters - trunk.costs[trunk.members - 1].parameters
    widest = max(int(room / 2 / trunk.members / classes) // GROUP, 1) * GROUP
    shapes = [replace(shape, outputs=min(shape.outputs, widest)) for shape in shapes]
    for narrowed in _narrower(shapes):
        if _fit(trunk, narrowed, classes, design.budget):
            return narrowed
    return narrowed


def _narrower(shapes: Sequence[IfdShape]) -> Iterator[list[IfdShape]]:
    for most in reversed(range(max(shape.refining for shape in shapes) + 1)):
        for step in reversed(range(STEPS // 4 if most else 1, STEPS + 1)):
            yield [
                IfdShape(
                    _part(shape.outputs, step),
                    shape.side,
                    min(shape.refining, most),
                    _part(shape.refined, step),
                )
                for shape in shapes
            ]


def _part(channels: int, step: int) -> int:
    return min(channels, max(channels * step // STEPS // GROUP, 1) * GROUP) if step < STEPS else channels


def _fit(trunk: Trunk, shapes: Sequence[IfdShape], classes: int, budget: float) -> bool:
    branches = _branches(trunk.blocks, shapes, classes)[: trunk.members]
    return all(
        (cost + its).within(trunk.whole, budget) for cost, its in zip(trunk.costs, branches, strict=False)
    )


def _branches(blocks: Sequence[Block], shapes: Sequence[IfdShape], classes: int) -> list[Cost]:
    """Return the cost of the IFDs and the classifier of every ``imf@k``."""
    each = [
        ifd_cost(block, shape) + Cost(shape.outputs * classes, shape.outputs * classes)
        for block, shape in zip(blocks, shapes, strict=True)
    ]
    return [cost + Cost(0, classes) for cost in accumulate(each)]
