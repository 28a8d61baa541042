"""Check parsed JSON against a type, and build dataclasses from it: records and reports may be anybody's.

Light: nothing but the standard library is imported.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable
from typing import (
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from imf_deploy.limits import LARGEST_NUMBER, LONGEST
from imf_deploy.untrusted import shorten

Record = TypeVar("Record")


def departure(value: Any, form: Any, place: str = "") -> str:
    """Return where a JSON value departs from a type, in words; nothing where it fits.

    A whole number is a ``float`` too, true is not a number, and numbers are at most
    :data:`~imf_deploy.limits.LARGEST_NUMBER` either way.

    Args:
        value: Parsed JSON.
        form: A ``TypedDict``, a dataclass, or a type made of JSON's, ``Literal``, unions, lists, tuples and
            dicts. Keys that a ``TypedDict`` does not know are allowed; those of one that is not total may be
            missing. A dataclass has no unknown keys, and texts and lists of at most
            :data:`~imf_deploy.limits.LONGEST`.
        place: Where the value stands, for the words.
    """
    if is_typeddict(form):
        return _typed_dict(value, form, place)
    if dataclasses.is_dataclass(form):
        return _dataclass(value, form, place)
    if check := _FORMS.get(get_origin(form)):
        return check(value, get_args(form), place)
    name, fits = _PLAIN[form]
    return "" if fits(value) else f"{place} is not {name}"


def read_typed(kind: type[Record], content: Any) -> Record:
    """Build a dataclass from a JSON object that fits it; see :func:`departure`.

    A number keeps its JSON form, so that the object's fingerprint stays the same.

    Args:
        kind: The dataclass.
        content: The object, as :mod:`json` reads it.

    Raises:
        ValueError: a field is missing, unknown, or of another type; the message names it.
    """
    if problem := departure(content, kind):
        raise ValueError(problem)
    return cast("Record", _build(content, kind))


def _build(value: Any, form: Any) -> Any:
    """Return a JSON value that fits a type as a value of that type."""
    origin, forms = get_origin(form), get_args(form)
    if origin in (Union, types.UnionType):
        return _build(value, next(option for option in forms if not departure(value, option)))
    if origin is tuple:
        return tuple(_build(*pair) for pair in zip(value, _entries(forms, len(value)), strict=True))
    if dataclasses.is_dataclass(form):
        hints = get_type_hints(form)
        return cast("Any", form)(**{name: _build(each, hints[name]) for name, each in value.items()})
    return value


def _typed_dict(value: Any, form: Any, place: str) -> str:
    # Annotations that are text hide NotRequired from the class itself.
    hints = get_type_hints(form, include_extras=True)
    required = [key for key in hints if form.__total__ and get_origin(hints[key]) is not NotRequired]
    return _object(value, hints, required, place)


def _dataclass(value: Any, form: Any, place: str) -> str:
    fields = [field for field in dataclasses.fields(form) if field.init]
    required = [
        field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING
    ]
    hints = get_type_hints(form)
    if problem := _object(value, {field.name: hints[field.name] for field in fields}, required, place):
        return problem
    names = {field.name for field in fields}
    if unknown := [name for name in value if name not in names]:
        return f"{place or 'it'} has the unknown '{shorten(unknown[0], 40)}'"
    long = next((name for name in value if _is_long(value[name])), None)
    return "" if long is None else f"{_inside(place, long)} is longer than {LONGEST:,}"


def _object(value: Any, hints: dict[str, Any], required: list[str], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'it'} is not an object"
    if missing := [key for key in required if key not in value]:
        return f"{place or 'it'} lacks {missing[0]}"
    return _first(departure(value[key], hints[key], _inside(place, key)) for key in hints if key in value)


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _is_long(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) > LONGEST or any(map(_is_long, value))
    return isinstance(value, str) and len(value) > LONGEST


def _union(value: Any, options: tuple[Any, ...], place: str) -> str:
    # JSON has no tuples: what Python writes as one is a list, and of that length.
    if any(get_origin(option) is tuple for option in options):
        options = tuple(option for option in options if get_origin(option) is not list)
    if value is None and type(None) in options:
        return ""
    problems = [departure(value, option, place) for option in options if option is not type(None)]
    return "" if "" in problems else problems[0]


def _literal(value: Any, allowed: tuple[Any, ...], place: str) -> str:
    fits = any(type(value) is type(each) and value == each for each in allowed)
    return "" if fits else f"{place} is not one of {', '.join(map(str, allowed))}"


def _list(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return _tuple(value, (*forms, Ellipsis), place)


def _tuple(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, list):
        return f"{place} is not a list"
    entries = _entries(forms, len(value))
    if len(value) != len(entries):
        return f"{place} has {len(value)} entries, not {len(entries)}"
    return _first(
        departure(item, form, f"{place}[{index}]")
        for index, (item, form) in enumerate(zip(value, entries, strict=True))
    )


def _entries(forms: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Return the types of a tuple's entries; ``tuple[int, ...]`` has as many as there are."""
    return forms[:1] * count if forms[1:] == (Ellipsis,) else forms


def _dict(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place} is not an object"
    return _first(departure(item, forms[1], f"{place}.{shorten(key, 60)}") for key, item in value.items())


def _not_required(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return departure(value, forms[0], place)


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    int: ("a whole number", lambda value: _number(value) and isinstance(value, int)),
    float: ("a number", _number),
    bool: ("yes or no", lambda value: isinstance(value, bool)),
    Any: ("a value", lambda _: True),
    type(None): ("null", lambda value: value is None),
}
_FORMS: dict[Any, Callable[[Any, tuple[Any, ...], str], str]] = {
    NotRequired: _not_required,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    list: _list,
    tuple: _tuple,
    dict: _dict,
}
