"""Declaration of settings: type, default, bounds and help text are one field of a frozen dataclass.

Values are validated when an object is created, in Python, on the command line and in ``--config`` alike. A
message names a field as `` `name` ``; the command line shows it as the option ``--name``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, dataclass_transform, get_type_hints

import pydantic.dataclasses
from cyclopts import Parameter
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ArgsKwargs, CoreSchema, core_schema

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.limits import LARGEST_NUMBER, LONGEST
from imf_deploy.settings.starts import Start
from imf_deploy.untrusted import printable, shorten

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True)
def settings(
    panel: str = "Parameters", start: Start | None = None, **defaults: Any
) -> Callable[[type[Class]], type[Class]]:
    """Turn a class into settings: a frozen dataclass whose fields are validated.

    Args:
        panel: Panel of ``--help`` that lists the class's own fields.
        start: Defaults of fields that are not given, if its option is.
        defaults: New defaults of inherited fields.
    """

    def make(own: type[Class]) -> type[Class]:
        hints = get_type_hints(own, include_extras=True)
        for name in own.__annotations__:
            option = _option(hints[name], getattr(own, name), panel)
            own.__annotations__[name] = Annotated[hints[name], option]
        for name, value in defaults.items():
            own.__annotations__[name] = hints[name]
            setattr(own, name, value)
        if start:
            for name in start.defaults:
                setattr(own, name, getattr(own, name))
                shown = Parameter(show_default=_shown_with(start.note(name)))
                own.__annotations__[name] = Annotated[hints[name], shown]
            # The command line and records validate values without calling __init__.
            setattr(own, "_start", model_validator(mode="before")(_filled(start)))  # noqa: B010
        config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=LONGEST)
        made: Any = pydantic.dataclasses.dataclass(frozen=True, config=config)(own)
        for field in fields(made):  # cyclopts reads help texts from here
            about = made.__pydantic_fields__[field.name].description
            field.metadata = MappingProxyType({"help": about})
        validate = made.__init__

        def __init__(self: Any, *args: Any, **values: Any) -> None:
            try:
                validate(self, **made.__signature__.bind(*args, **values).arguments)
            except ValidationError as error:
                raise UsageError(*problem(error)) from error

        __init__.__signature__ = made.__signature__  # type: ignore[attr-defined]
        made.__init__ = __init__
        return Parameter(name="*")(made)  # type: ignore[no-any-return]

    return make


def _filled(start: Start) -> Any:
    """Return a validator that adds a start's defaults to given values."""

    def fill(_kind: Any, given: Any) -> Any:
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, start.filled(given.kwargs or {}))
        return start.filled(given) if isinstance(given, dict) else given

    return classmethod(fill)


def _shown_with(note: str) -> Callable[[Any], str]:
    """Return how ``--help`` shows a default that another option changes."""
    return lambda value: note if value in ("", (), None) else f"{value}; {note}"


def _option(hint: Any, default: Any, panel: str) -> Parameter:
    """Return how the command line parses and shows a field."""
    if is_dataclass(hint):
        return Parameter(name="*")
    text = next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Text)), None)
    if default in ("", (), False, None):
        shown: Any = False
    else:
        shown = text.write if text else True
    if text:  # one word on the command line, which the type parses
        return Parameter(group=panel, show_default=shown, n_tokens=1, accepts_keys=False, metavar="TEXT")
    return Parameter(group=panel, show_default=shown)


def from_record(kind: type[Class], content: Any) -> Class:
    """Build settings from the JSON of a record, without type conversions.

    Raises:
        ImfDeployError: a field is unknown, has the wrong type, or is out of bounds; the message names it.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        what, hint = problem(error)
        raise ImfDeployError(what, hint) from error
    except UsageError as error:
        raise ImfDeployError(error.what, error.hint) from error


def option_values(values: Any) -> dict[str, Any]:
    """Return the values of settings by the names of their options, as ``--config`` reads them."""
    options: dict[str, Any] = {}
    for name, hint in get_type_hints(type(values), include_extras=True).items():
        value, extras = getattr(values, name), getattr(hint, "__metadata__", ())
        if is_dataclass(value):
            options |= option_values(value)
        elif INTERNAL not in extras and value is not None:
            write = next((each.write for each in extras if isinstance(each, Text)), plain)
            options[name.replace("_", "-")] = write(value)
    return options


def plain(value: Any) -> Any:
    """Return the value of an option as YAML holds it."""
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def problem(error: ValidationError) -> tuple[str, str]:
    """Return what is wrong with the first invalid field, and a hint."""
    first = error.errors(include_url=False)[0]
    name = f"`{shorten(str(first['loc'][0]), 40)}`" if first["loc"] else ""
    context: Mapping[str, Any] = first.get("ctx", {})
    given = shorten(str(first["input"]), 60)
    if bound := next((key for key in _BOUNDS if key in context), None):
        return f"{name} {given} is out of range", f"Give {_BOUNDS[bound]} {context[bound]:g}"
    if first["type"] == "finite_number":
        return f"{name} {given} is out of range", "Give a finite number"
    if first["type"] == "literal_error":
        return f"{name} {given} is not known", f"Use {context['expected'].replace(chr(39), '')}"
    if first["type"] == "string_unicode":
        return (
            f"{name} {printable(str(first['input']))} is not UTF-8",
            "Rename the file or the folder, or give a link to it",
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"{name} {given} cannot be used ({message[:1].lower()}{message[1:]})".strip(), ""


@dataclass(frozen=True)
class Text:
    """Textual form of a value on the command line and in YAML; Python code may pass either form.

    Attributes:
        read: Converts text to a value of the type. It may raise ``ValueError`` or ``UsageError``.
        write: Converts a value to text.
        repeats: Whether the option may be given several times, as if all values stood in one list.
    """

    read: Callable[[str], Any]
    write: Callable[[Any], str] = lambda value: ",".join(map(str, value))
    repeats: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        """Return the schema of the type, which also accepts text."""

        def parse(value: Any) -> Any:
            if isinstance(value, list):  # JSON, or the words after an option
                value = value[0] if len(value) == 1 and isinstance(value[0], str) else tuple(value)
            return self.read(value) if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(parse, handler(source))


def words(text: str) -> tuple[str, ...]:
    """Split words at commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


Count = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
"""A positive integer."""
Whole = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
"""A non-negative integer, such as a seed."""
Weight = Annotated[float, Field(ge=0, le=LARGEST_NUMBER)]
"""A non-negative number."""
Part = Annotated[float, Field(ge=0, lt=1)]
"""A number of at least 0 and below 1."""
Words = Annotated[tuple[str, ...], Field(max_length=LONGEST), Text(words)]
"""Names; on the command line, separated by commas."""
INTERNAL: Any = Parameter(parse=False, show=False)
"""Marks a field that only Python code can set: the command line has no option for it."""
