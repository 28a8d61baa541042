"""Settings of an architecture that change its answers but are not in a ``state_dict``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.models.names import Architecture

Setting = bool | int | float | str
Settings = tuple[tuple[str, Setting], ...]
"""Names and values, sorted by name."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")
_MOST = 20
# These are passed to the library's function. Others would fetch files (pretrained, checkpoint_path) or change
# the parameters, which the file of weights shows.
_TIMM = ("act_layer", "global_pool", "bn_eps", "norm_eps", "pad_type")
INCEPTIONS = ("googlenet", "inception_v3")
"""torchvision's networks that can transform their input, and that have auxiliary heads."""


def known_settings(architecture: Architecture) -> tuple[str, ...] | None:
    """Return the names of an architecture's settings; ``None`` if a function of the user's decides."""
    if architecture.library == "factory":
        return None
    if architecture.library == "timm":
        return _TIMM
    if architecture.library == "torchvision" and architecture.name in INCEPTIONS:
        return ("transform_input",)
    return ()


def choices(architecture: Architecture) -> list[Settings]:
    """Return the settings, other than the defaults, that weights of this architecture often need.

    torchvision's published GoogLeNet and Inception expect ImageNet's mean and standard deviation, and convert
    them to those that they were trained with (``transform_input``).
    """
    if architecture.library == "torchvision" and architecture.name in INCEPTIONS:
        return [(("transform_input", True),)]
    return []


def parse_settings(text: str, option: str) -> Settings:
    """Read ``NAME=VALUE,...``; values are true, false, numbers or words.

    Raises:
        UsageError: the text has another form.
    """
    found: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, sign, value = (side.strip() for side in part.partition("="))
        if not sign or name in found:
            raise UsageError(
                f"{option} {text} cannot be read ('{part}')", "For example: transform_input=true"
            )
        found[name] = _read(value)
    try:
        return read_settings(found)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", "For example: transform_input=true") from error


def _read(text: str) -> Setting:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if any(sign in text for sign in ".e") else int(text)


def read_settings(content: Any) -> Settings:
    """Read settings from a record.

    Raises:
        ValueError: a name or a value has another form.
    """
    if not isinstance(content, Mapping) or len(content) > _MOST:
        raise ValueError("the settings are not a short list of names and values")
    for name, value in content.items():
        fine = isinstance(value, bool) or (isinstance(value, str) and bool(_WORD.fullmatch(value)))
        fine |= type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
        if not (isinstance(name, str) and _NAME.fullmatch(name) and fine):
            raise ValueError(f"a network has no setting {str(name)[:40]}={str(value)[:40]}")
    return tuple(sorted(content.items()))


def check_settings(architecture: Architecture, settings: Settings) -> None:
    """Refuse settings that an architecture does not have.

    Raises:
        UsageError: naming the first such setting.
    """
    known = known_settings(architecture)
    for name, _ in settings:
        if known is not None and name not in known:
            raise UsageError(
                f"{architecture.name} has no setting '{name}'",
                f"Its settings are {', '.join(known)}" if known else "Leave it out",
            )
