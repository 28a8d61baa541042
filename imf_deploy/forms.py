"""Hold parsed JSON against a type: the one check of records and reports that may be anybody's.

Light: nothing but the standard library is imported.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from imf_deploy.untrusted import shorten

LARGEST = 1e18
"""Beyond this a number is not a measurement; a whole one would overflow whoever calculates with it."""


def departure(value: Any, form: Any, place: str = "") -> str:
    """Return where a JSON value departs from a type, in words; nothing where it fits.

    Args:
        value: Parsed JSON.
        form: A ``TypedDict``, or a type made of JSON's, ``Literal``, unions, lists, tuples and dicts. Keys
            that a ``TypedDict`` does not know are allowed; those of one that is not total may be missing.
        place: Where the value stands, for the words.
    """
    if is_typeddict(form):
        return _typed_dict(value, form, place)
    if check := _FORMS.get(get_origin(form)):
        return check(value, get_args(form), place)
    name, fits = _PLAIN[form]
    return "" if fits(value) else f"{place} is not {name}"


def _typed_dict(value: Any, form: Any, place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'it'} is not an object"
    # Annotations that are text hide NotRequired from the class itself.
    hints = get_type_hints(form, include_extras=True)
    required = [key for key in hints if form.__total__ and get_origin(hints[key]) is not NotRequired]
    missing = [key for key in required if key not in value]
    if missing:
        return f"{place or 'it'} lacks {missing[0]}"
    prefix = f"{place}." if place else ""
    return _first(departure(value[key], hints[key], prefix + key) for key in hints if key in value)


def _union(value: Any, options: tuple[Any, ...], place: str) -> str:
    # JSON has no tuples: what Python writes as one is a list, and of that length.
    if any(get_origin(option) is tuple for option in options):
        options = tuple(option for option in options if get_origin(option) is not list)
    if value is None and type(None) in options:
        return ""
    problems = [departure(value, option, place) for option in options if option is not type(None)]
    return "" if "" in problems else problems[0]


def _literal(value: Any, allowed: tuple[Any, ...], place: str) -> str:
    return "" if value in allowed else f"{place} is not one of {', '.join(map(str, allowed))}"


def _list(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return _tuple(value, forms * len(value) if isinstance(value, list) else (), place)


def _tuple(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, list):
        return f"{place} is not a list"
    if len(value) != len(forms):
        return f"{place} has {len(value)} entries, not {len(forms)}"
    return _first(
        departure(item, form, f"{place}[{index}]")
        for index, (item, form) in enumerate(zip(value, forms, strict=True))
    )


def _dict(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place} is not an object"
    return _first(departure(item, forms[1], f"{place}.{shorten(key, 60)}") for key, item in value.items())


def _not_required(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return departure(value, forms[0], place)


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


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
