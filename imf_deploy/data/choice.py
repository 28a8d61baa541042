"""Choose a part of a split with equal numbers of every class, and hash the choice."""

import hashlib

import torch

from imf_deploy.data.dataset import Split
from imf_deploy.errors import UsageError

_CHUNK = 64


def choose_images(split: Split, count: int, seed: int) -> Split:
    """Return a seeded, class-balanced part of a split.

    Numbers of images per class differ by at most one; if a class has too few, the others provide more.

    Args:
        split: The split to choose from.
        count: Number of images.
        seed: Seed of the choice.

    Returns:
        A split of ``count`` images, in their order in ``split``. Source: ours.

    Raises:
        UsageError: the split has fewer images.
    """
    if count > len(split):
        raise UsageError(f"{count} images were requested, but there are only {len(split)}", "Ask for fewer")
    shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    classes = split.labels[shuffled]
    # Index of each image within its class: taking the lowest first takes classes in turn.
    turn = torch.zeros(len(split), dtype=torch.int64)
    for label in set(classes.tolist()):
        members = (classes == label).nonzero().flatten()
        turn[members] = torch.arange(len(members))
    chosen = shuffled[turn.argsort(stable=True)[:count]]
    return split.subset(chosen.sort().values)


def hash_images(split: Split) -> str:
    """Return the SHA-256 of the pixels and classes of a split, reading a few images at a time."""
    digest = hashlib.sha256(split.labels.numpy().tobytes())
    for positions in torch.split(torch.arange(len(split)), _CHUNK):
        pixels = split.fetch(positions)
        digest.update(str(tuple(pixels.shape[1:])).encode())
        digest.update(pixels.contiguous().numpy().tobytes())
    return digest.hexdigest()
