"""Settings of an architecture: strides at its first reductions, and options that no ``state_dict`` shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.settings.base import Text, words

OWN_STRIDES = "own"
"""Text for ``()``, which keeps the strides of the library."""

Setting = bool | int | float | str
NetworkSettings = tuple[tuple[str, Setting], ...]
"""Names and values, sorted by name."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")
_MOST = 20


def _read_strides(text: str) -> tuple[int, ...] | None:
    if text.strip() == OWN_STRIDES:
        return ()
    parts = words(text)
    if not all(part in ("1", "2") for part in parts):
        raise ValueError(f"it is neither a list of 1s and 2s such as 2,1, nor {OWN_STRIDES}")
    return tuple(map(int, parts)) or None


Strides = Annotated[
    tuple[Annotated[int, Field(ge=1, le=2)], ...] | None,
    Text(_read_strides, lambda strides: ",".join(map(str, strides)) or OWN_STRIDES),
]
"""Strides; ``()`` keeps those of the library, and ``None`` derives them."""


def _read_text(text: str) -> NetworkSettings | None:
    options: dict[str, Any] = {}
    for part in words(text):
        name, sign, value = (side.strip() for side in part.partition("="))
        if not sign or name in options:
            raise ValueError(f"'{part}' is not a setting such as transform_input=true")
        options[name] = _read_value(value)
    return read_settings(options) or None


def _read_value(text: str) -> Setting:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if any(sign in text for sign in ".e") else int(text)


def read_settings(content: Any) -> NetworkSettings:
    """Read settings from a record.

    Raises:
        ValueError: a name or a value of another form.
    """
    if not isinstance(content, Mapping) or len(content) > _MOST:
        raise ValueError("the settings are not a short list of names and values")
    for name, value in content.items():
        fine = isinstance(value, bool) or (isinstance(value, str) and bool(_WORD.fullmatch(value)))
        fine |= type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
        if not (isinstance(name, str) and _NAME.fullmatch(name) and fine):
            raise ValueError(f"a network has no setting {str(name)[:40]}={str(value)[:40]}")
    return tuple(sorted(content.items()))


def settings_text(values: NetworkSettings) -> str:
    """Return settings as they are written on the command line."""
    return ",".join(f"{name}={str(value).lower()}" for name, value in values)


NetworkOptions = Annotated[NetworkSettings | None, Text(_read_text, settings_text)]
"""Settings; ``None`` uses those that a record names, or finds them."""
