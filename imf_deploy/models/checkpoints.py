"""Checkpoints of other tools: found, matched to a network's own names, and loaded without running code."""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file
from imf_deploy.models.fitting import Fitted, fit_names
from imf_deploy.models.foreign import network_state, read_foreign
from imf_deploy.models.weights import load_weights, read_weights
from imf_deploy.untrusted import shorten

_USUAL = ("state_dict", "model_state_dict", "model", "")
"""Keys that are searched first for weights; other keys come later, and averages come last."""
_AVERAGES = {"ema", "swa", "avg", "average", "averaged", "polyak", "shadow"}
_DEEPEST = 4
_GLOBAL = re.compile(r"(?<=GLOBAL )[\w.]+")
_OPERAND = re.compile(r"Unsupported operand \d+|persistent id encountered|pickle protocol \d+")
Sets = dict[str, dict[str, Tensor]]
"""Tensors by name, for each dotted key under which a file stores them; the whole file has an empty key."""


def load_checkpoint(model: nn.Module, path: Path, key: str = "") -> list[str]:
    """Load the weights of a network from a file in any usual form.

    Accepted are safetensors, and what ``torch.save`` writes (``.pt``, ``.pth``, ``.ckpt``, ``.bin``): a
    ``state_dict`` or a whole network, or a checkpoint that contains one under any key. No code of the file is
    run; see :func:`imf_deploy.models.foreign.read_foreign`. Names are matched to the network's; see
    :func:`imf_deploy.models.fitting.fit_names`.

    Args:
        model: The network, changed in place.
        path: The file.
        key: Which weights of the file to use, as a dotted path of keys, or the first parts of the tensors'
            names; if empty, they are found.

    Returns:
        Decisions made for the user, as sentences without a full stop.

    Raises:
        UsageError: there is no such file or key, or tensors have no values that can be read.
        ImfDeployError: the file is damaged, contains code, or belongs to another model.
    """
    sets = read_sets(path)
    expected = model.state_dict()
    chosen, fitted, notes = choose(sets, expected, path, key)
    if fitted.mismatches and not key and (near := inner_key(sets, expected)):
        raise ImfDeployError(
            f"{path} holds more than the weights of {type(model).__name__} ({'; '.join(fitted.mismatches)})",
            f"If they are those under '{near}', add `weights_key` {near}",
        )
    load_weights(model, fitted.tensors, f"{path}{f' ({chosen})' if chosen else ''}")
    return notes + [f"{path}: {note}" for note in fitted.notes]


def read_sets(path: Path) -> Sets:
    """Return all sets of named tensors in a file.

    Raises:
        UsageError: there is no such file, or tensors have no values that can be read.
        ImfDeployError: the file is damaged, contains code, or has no named tensors.
    """
    sets = _read(path)
    _check_storage(sets, path)
    return sets


def _read(path: Path) -> Sets:
    existing_file(path, "weights")
    if path.suffix == ".safetensors":
        return {"": read_weights(path)}
    try:
        content = read_foreign(path)
    except Exception as error:  # a broken file provokes zip, pickle and runtime errors
        raise _refused(path, error) from error
    sets = dict(_sets(content, "", 0, set()))
    if not sets:
        raise ImfDeployError(
            f"{path} holds no state_dict", "Save the model's state_dict, preferably as safetensors"
        )
    return sets


def _refused(path: Path, error: Exception) -> ImfDeployError:
    # torch's own text has several lines and escape codes, and advises loading the file anyway.
    text = str(error)
    refused = f"{path} was refused: it is damaged or holds more than tensors"
    if "TorchScript" in text:
        return ImfDeployError(
            f"{path} is a TorchScript archive, not a file of weights",
            "If you trust its source, save its weights, in Python: import torch; "
            f"torch.save(torch.jit.load({str(path)!r}, 'cpu').state_dict(), 'weights.pt')",
        )
    if isinstance(error, pickle.UnpicklingError):
        found = _GLOBAL.search(text) or _OPERAND.search(text)
        what = f" ({' '.join(found[0].split())})" if found else ""
        return ImfDeployError(
            f"{refused}{what}, and reading that can run code",
            "If you trust its source, save only its weights, in Python, under the key that they have: "
            "import torch; checkpoint = torch.load("
            f"{str(path)!r}, 'cpu', weights_only=False); torch.save(checkpoint['state_dict'], 'weights.pt')",
        )
    return ImfDeployError(
        f"{refused} ({shorten(text) or type(error).__name__})",
        "Save only the model's state_dict, preferably as safetensors",
    )


def _sets(content: Any, key: str, depth: int, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if network := network_state(content):
        yield key, network
    if not isinstance(content, dict) or depth > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
        yield key, tensors
    for name, value in named.items():
        yield from _sets(value, f"{key}.{name}" if key else name, depth + 1, seen)


def choose(
    sets: Sets, expected: Mapping[str, Tensor], path: Path, key: str = ""
) -> tuple[str, Fitted, list[str]]:
    """Return the key of the weights to use, the weights, and the warning about the choice.

    Args:
        sets: See :func:`read_sets`.
        expected: The network's ``state_dict``.
        path: The file, for messages.
        key: See :func:`load_checkpoint`.

    Raises:
        UsageError: there are no weights under the key.
    """
    if key:
        return key, fit_names(_under(sets, key, path), expected), []
    fitted = {name: fit_names(tensors, expected) for name, tensors in sets.items()}
    whole = sorted((name for name, each in fitted.items() if not each.mismatches), key=_rank)
    if not whole:
        # The nearest one, to report the differences.
        nearest = min(sorted(fitted, key=_rank), key=lambda name: fitted[name].distance)
        return nearest, fitted[nearest], []
    chosen, *others = whole
    notes = []
    if others:
        alternatives = " or ".join(f"`weights_key` {other}" for other in others)
        used = f"'{chosen}'" if chosen else "the outermost"
        notes.append(
            f"{path} holds {len(whole)} sets of weights: {used} is used; {alternatives} selects another"
        )
    return chosen, fitted[chosen], notes


def _rank(key: str) -> tuple[bool, int]:
    """Order keys: averages of weights last, and the usual names first."""
    averaged = bool(_AVERAGES & set(re.split(r"[^a-z]+", key.lower())))
    return averaged, _USUAL.index(key) if key in _USUAL else len(_USUAL)


def _under(sets: Sets, key: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors under a key of the file, or those whose names begin with its last parts."""
    if key in sets:
        return sets[key]
    for name, tensors in sets.items():
        prefix = key.removeprefix(f"{name}.") if name else key
        if name and prefix == key:
            continue
        if below := {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{prefix}.")}:
            return below
    known = [name for name in sets if name] or sorted({n.partition(".")[0] for n in sets[""] if "." in n})
    raise UsageError(
        f"{path} has no weights under `weights_key` {key}",
        f"For example: {', '.join(known[:5])}" if known else "Leave it out",
    )


def inner_key(sets: Sets, expected: Mapping[str, Tensor]) -> str:
    """Return the key of weights that fit but are stored among tensors of other networks; empty if none do."""
    for key, tensors in sets.items():
        prefixes = {name.partition(".")[0] for name in tensors if "." in name}
        for prefix in sorted(prefixes, key=lambda name: (_rank(name), name)):
            inner = {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
            if not fit_names(inner, expected).mismatches:
                return f"{key}.{prefix}" if key else prefix
    return ""


def _check_storage(sets: Sets, path: Path) -> None:
    """Refuse tensors that have no values, or not one for each position.

    Raises:
        UsageError: naming the first such tensor.
    """
    for tensors in sets.values():
        for name, tensor in tensors.items():
            if problem := _storage_problem(tensor):
                raise UsageError(
                    f"{path} holds {problem} ({name})",
                    "Save the state_dict of the loaded network, with dense tensors in floating point",
                )


def _storage_problem(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "tensors on the meta device, which have no values"
    if tensor.is_quantized:
        return "quantised tensors"
    if tensor.is_nested or tensor.layout is not torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.").replace("_", " ")
        return f"{layout} tensors"
    return "" if type(tensor) in (Tensor, nn.Parameter) else f"tensors of the type {type(tensor).__name__}"
