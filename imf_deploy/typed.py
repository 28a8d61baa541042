"""Dataclasses read from JSON that may be anybody's: every field has its declared type, or nothing is read."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

LARGEST = 2**63 - 1
"""Of whole numbers, either way; seeds are as large."""
LONGEST = 1000
"""Of texts, in characters, and of lists."""
Record = TypeVar("Record")


def read_typed(kind: type[Record], content: Any) -> Record:
    """Build a dataclass from a JSON object.

    Fields may be ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``tuple``, any of them or ``None``, and
    dataclasses of the same. A whole number is a ``float`` too, true is not a number, and floats are finite. A
    number keeps its JSON form, so that the object's fingerprint stays the same.

    Args:
        kind: The dataclass.
        content: The object, as :mod:`json` reads it.

    Raises:
        ValueError: a field is missing, unknown, or of another type; the message names it.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not an object")
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    if unknown := [name for name in content if name not in fields]:
        raise ValueError(f"unknown '{str(unknown[0])[:40]}'")
    for name, field in fields.items():
        optional = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        if name not in content and not optional:
            raise ValueError(f"'{name}' is missing")
    return kind(**{name: _value(hints[name], value, name) for name, value in content.items()})


def _value(kind: Any, value: Any, name: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (only,) = (part for part in parts if part is not type(None))
        return None if value is None and type(None) in parts else _value(only, value, name)
    if origin is tuple and isinstance(value, list) and len(value) <= LONGEST:
        kinds = parts[:1] * len(value) if parts[1:] == (Ellipsis,) else parts
        if len(kinds) == len(value):
            return tuple(_value(part, each, name) for part, each in zip(kinds, value, strict=True))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        try:
            return read_typed(kind, value)
        except ValueError as error:
            raise ValueError(f"'{name}': {error}") from error
    if _is(kind, value) or (origin is Literal and isinstance(value, str) and value in parts):
        return value
    raise ValueError(f"'{name}' cannot be {str(value)[:40]!r}")


def _is(kind: Any, value: Any) -> bool:
    """Return whether a plain value has a plain type."""
    whole = type(value) is int and abs(value) <= LARGEST
    if kind is float:
        return whole or (type(value) is float and math.isfinite(value))
    if kind is int:
        return whole
    if kind is str:
        return isinstance(value, str) and len(value) <= LONGEST
    return kind is bool and isinstance(value, bool)
