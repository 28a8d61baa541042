"""Read a ``report.json`` that may be anybody's: whatever is not in its form is refused, and said."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file, finite, read_json
from imf_deploy.report.format import LARGEST
from imf_deploy.report.schema import SCHEMA, Report
from imf_deploy.untrusted import visible


def read_report(path: Path) -> Report:
    """Read ``report.json`` and check every field against :class:`imf_deploy.report.schema.Report`.

    Fields that the form does not know are kept.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it is damaged, no report, or one of another version.
    """
    content = finite(read_json(existing_file(path, "a run's report.json")))
    schema = content.get("schema")
    if not isinstance(schema, int) or "artifacts" not in content:
        raise ImfDeployError(f"{path} is no report of imf-deploy", "Give the report.json of a run")
    if schema > SCHEMA:
        raise ImfDeployError(
            f"{path} was written by a newer version (form {schema}, this one reads {SCHEMA})",
            "Update imf-deploy",
        )
    if schema < SCHEMA:
        raise ImfDeployError(
            f"{path} was written by an older version (form {schema}, this one reads {SCHEMA})",
            f"Make it again with: {_command(content.get('command'))}",
        )
    problem = _problem(content, Report, "")
    if problem:
        raise ImfDeployError(
            f"{path} is no whole report: {problem}",
            "It is damaged or of another version: run distill-and-export again",
        )
    return cast("Report", content)


def _command(told: Any) -> str:
    """Return the command that a report gives, for a terminal."""
    return visible(told) if isinstance(told, str) and told else "imf-deploy distill-and-export"


def _problem(value: Any, form: Any, place: str) -> str:
    """Return where a JSON value departs from a type, in words; nothing where it fits."""
    if is_typeddict(form):
        return _typed_dict(value, form, place)
    if check := _FORMS.get(get_origin(form)):
        return check(value, get_args(form), place)
    name, fits = _PLAIN[form]
    return "" if fits(value) else f"{place} is no {name}"


def _typed_dict(value: Any, form: Any, place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'it'} is no object"
    # Annotations that are text hide NotRequired from the class itself.
    hints = get_type_hints(form, include_extras=True)
    missing = [key for key in hints if key not in value and get_origin(hints[key]) is not NotRequired]
    if missing:
        return f"{place or 'it'} lacks {missing[0]}"
    prefix = f"{place}." if place else ""
    return _first(_problem(value[key], hints[key], prefix + key) for key in hints if key in value)


def _union(value: Any, options: tuple[Any, ...], place: str) -> str:
    # JSON has no tuples: what Python writes as one is a list, and of that length.
    if any(get_origin(option) is tuple for option in options):
        options = tuple(option for option in options if get_origin(option) is not list)
    if value is None and type(None) in options:
        return ""
    problems = [_problem(value, option, place) for option in options if option is not type(None)]
    return "" if "" in problems else problems[0]


def _literal(value: Any, allowed: tuple[Any, ...], place: str) -> str:
    return "" if value in allowed else f"{place} is none of {', '.join(map(str, allowed))}"


def _list(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return _tuple(value, forms * len(value) if isinstance(value, list) else (), place)


def _tuple(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, list):
        return f"{place} is no list"
    if len(value) != len(forms):
        return f"{place} has {len(value)} entries, not {len(forms)}"
    return _first(
        _problem(item, form, f"{place}[{index}]")
        for index, (item, form) in enumerate(zip(value, forms, strict=True))
    )


def _dict(value: Any, forms: tuple[Any, ...], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place} is no object"
    return _first(_problem(item, forms[1], f"{place}.{key}") for key, item in value.items())


def _not_required(value: Any, forms: tuple[Any, ...], place: str) -> str:
    return _problem(value, forms[0], place)


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    int: ("whole number", lambda value: _number(value) and isinstance(value, int)),
    float: ("number", _number),
    bool: ("yes or no", lambda value: isinstance(value, bool)),
    Any: ("value", lambda _: True),
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
