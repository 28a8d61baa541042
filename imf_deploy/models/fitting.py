"""Match the names of tensors from other tools to a network: wrapper prefixes, bookkeeping, old names."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from imf_deploy.models.weights import COUNTER, mismatches

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that torch.compile, FSDP and activation checkpointing insert anywhere."""
_BOOKKEEPING = ("n_averaged", "num_updates", "decay", "initted", "step", "total_ops", "total_params")
"""Last parts of names that are not weights: counters of averages, and the buffers of the profiler thop."""
_TRAINING_HEADS = ("AuxLogits", "aux1", "aux2")
"""First parts of the names of auxiliary heads (GoogLeNet, Inception), which are only used in training."""
_OLDER_NAMES = (
    # DenseNet: torchvision's published files.
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    # The transformers' blocks of torchvision before 0.13.
    (re.compile(r"(mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(mlp)\.linear_2\."), r"\1.3."),
    # The classifier in the package pretrainedmodels, the first source of many Inceptions and DenseNets.
    (re.compile(r"^last_linear\."), "fc."),
    (re.compile(r"^last_linear\."), "classifier."),
)


@dataclass(frozen=True)
class Fitted:
    """Tensors under a network's own names, as far as they could be matched.

    Attributes:
        tensors: Tensors by name.
        mismatches: Remaining differences of names and shapes; empty if there are none.
        distance: Number of names that differ.
        notes: What was left out, as sentences without a full stop.
    """

    tensors: dict[str, Tensor]
    mismatches: list[str]
    distance: int
    notes: list[str]


def fit_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Fitted:
    """Rename tensors to the names that a network has for them.

    A change is made only where it is needed to match the network's own names:

    - Prefixes that all names share (``module.`` of DistributedDataParallel and SWA, ``model.`` of Lightning,
      or any other) are removed, one after the other, until the names are the network's.
    - ``_orig_mod`` of torch.compile, and the parts that FSDP inserts into names, are removed anywhere.
    - Bookkeeping such as SWA's ``n_averaged`` is dropped, and so are heads that are only used in training.
    - Old names of torchvision's DenseNet and of its transformers, and ``last_linear``, are converted.
    - Batch norm without ``num_batches_tracked``, as before PyTorch 0.4.1, starts counting at 0.

    Args:
        tensors: Tensors by their names in the file.
        expected: The network's ``state_dict``.

    Returns:
        The form that is nearest to the network.
    """
    forms = [_repair(form, expected) for form in _without_prefixes(dict(tensors), expected)]
    return min(forms, key=lambda form: form.distance)


def _without_prefixes(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors, and then the tensors without each prefix that all of their names share."""
    own = {part for name in expected for part in name.split(".")}
    bookkeeping = set(_BOOKKEEPING) - own
    tensors = {n: t for n, t in tensors.items() if t.numel() > 1 or n.rpartition(".")[2] not in bookkeeping}
    wrappers = [part for part in _WRAPPERS if part not in own]
    tensors = _renamed(tensors, lambda name: ".".join(p for p in name.split(".") if p not in wrappers))
    yield tensors
    while (
        tensors and len({name.partition(".")[0] for name in tensors}) == 1 and all("." in n for n in tensors)
    ):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        yield tensors


def _repair(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> Fitted:
    def up_to_date(name: str) -> str:
        for old, new in _OLDER_NAMES:
            if name not in expected and (changed := old.sub(new, name)) in expected:
                return changed
        return name

    tensors = _renamed(tensors, up_to_date)
    first = {name.partition(".")[0] for name in expected}
    heads = {name.partition(".")[0] for name in tensors} & set(_TRAINING_HEADS) - first
    tensors = {name: t for name, t in tensors.items() if name.partition(".")[0] not in heads}
    for name, own in expected.items():
        if name.endswith(COUNTER) and name not in tensors:
            tensors[name] = torch.zeros_like(own)
    notes = [f"{', '.join(sorted(heads))} is left out, because only training uses it"] if heads else []
    return Fitted(tensors, mismatches(tensors, expected), len(tensors.keys() ^ expected.keys()), notes)


def _renamed(tensors: dict[str, Tensor], change: Callable[[str], str]) -> dict[str, Tensor]:
    """Return tensors under changed names, or unchanged if two of them would have the same name."""
    changed = {change(name): tensor for name, tensor in tensors.items()}
    return changed if len(changed) == len(tensors) else tensors
