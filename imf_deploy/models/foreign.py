"""Files of ``torch.save`` that hold objects of any class, read without importing or running their code."""

import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PICKLES_BEFORE_1_6 = 4
_DICTIONARY = re.compile(r"(dict|config|cfgnode|munch|bunch|namespace)$", re.IGNORECASE)
_LIST = re.compile(r"(list|deque)$", re.IGNORECASE)


class StandIn:
    """Takes the place of an object of another class: it has the object's state, and none of its code."""

    state: Any = None

    def __new__(cls, *args: object, **options: object) -> Any:  # noqa: D102
        return object.__new__(cls)

    def __init__(self, *args: object, **options: object) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _StandInForDict:
    """Makes a dictionary in place of an object that may have items."""

    def __new__(cls, *args: object) -> Any:
        return OrderedDict()


class _StandInForList(list[Any]):
    """Takes the place of another kind of list."""

    def __init__(self, *args: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None: ...


def read_foreign(path: Path) -> Any:
    """Read a file of ``torch.save`` on the CPU, with ``weights_only=True``.

    Training scripts store their options, counters and whole networks beside the weights. ``weights_only``
    refuses such classes because importing them could run code. Here each of them is replaced by a
    :class:`StandIn`, which does nothing. Code is still refused if it names a module of the operating system.

    Raises:
        Exception: the file is damaged, or has a form that ``weights_only`` does not read.
    """
    with warnings.catch_warnings(action="ignore"):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            try:
                names = _foreign_names(path)
            except Exception:
                names = []
            if not names:
                raise
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _foreign_names(path: Path) -> list[str]:
    """Return the classes and functions of a file, as ``module.name``; torch's own may be among them.

    Those that ``weights_only`` allows are looked up before any stand-in.
    """
    if zipfile.is_zipfile(path):
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    # Before PyTorch 1.6: a number, a version, the system and the content, each pickled on its own.
    with path.open("rb") as file:
        found = [
            tuple(str(argument).split(" ", 1))
            for _ in range(_PICKLES_BEFORE_1_6)
            for opcode, argument, _position in pickletools.genops(file)
            if opcode.name == "GLOBAL"
        ]
    # This form names modules as Python 2 does.
    renamed = (NAME_MAPPING.get((module, name), (module, name)) for module, name in found)
    return [f"{IMPORT_MAPPING.get(module, module)}.{name}" for module, name in renamed]


def _stand_in(name: str) -> type:
    own = name.rpartition(".")[2]
    # torch fills only dictionaries and lists, so that the kind must be known beforehand.
    base = _StandInForDict if _DICTIONARY.search(own) else _StandInForList if _LIST.search(own) else StandIn
    return type(own, (base,), {})


def network_state(value: object) -> dict[str, Tensor] | None:
    """Return the ``state_dict`` of a network that was saved as a whole; ``None`` if the value is not one.

    Args:
        value: An object of :func:`read_foreign`.
    """
    if not isinstance(value, StandIn) or not _is_network(value.state):
        return None
    tensors: dict[str, Tensor] = {}
    remaining = [("", value.state)]
    seen: set[int] = set()
    while remaining:
        prefix, state = remaining.pop()
        if id(state) in seen:  # a network that holds itself
            continue
        seen.add(id(state))
        temporary = state.get("_non_persistent_buffers_set", ())
        own = {**state["_parameters"], **{n: b for n, b in state["_buffers"].items() if n not in temporary}}
        tensors |= {f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
        remaining += [
            (f"{prefix}{name}.", child.state)
            for name, child in state["_modules"].items()
            if isinstance(child, StandIn) and _is_network(child.state)
        ]
    return tensors


def _is_network(state: object) -> bool:
    parts = ("_parameters", "_buffers", "_modules")
    return isinstance(state, dict) and all(isinstance(state.get(part), dict) for part in parts)
