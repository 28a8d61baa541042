"""``--config FILE.yaml``: options of a command from a file, and back into one."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imf_deploy.untrusted import shorten

if TYPE_CHECKING:
    import yaml

Command = Callable[..., None]
Given = frozenset[str]
"""Long names of options, without dashes."""
Settings = dict[str, Any]
"""Values by the long names of options, without dashes."""

# Where to write, and whether over another run, is no part of what a run is.
_NOT_RECORDED = {"config", "output", "overwrite"}
_EXAMPLE = "Write lines such as epochs: 7"

CONFIG_BYTES = 64 << 10
"""Largest file of options that is read; one with every option of a command has 3 kB."""
_LONGEST_NAME = 60


def configurable(command: Command) -> Command:
    """Give a command ``--config``.

    One with a parameter ``settings`` gets what its options came to, and one with a parameter ``given`` the
    names of the options on the command line itself.
    """
    own = inspect.signature(command, eval_str=True).parameters
    added = {
        "config": inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                Path | None,
                typer.Option(
                    help="YAML file of options, by their names without dashes; the command line wins.",
                    is_eager=True,
                    callback=_apply,
                ),
            ],
        ),
        "context": inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    }

    @functools.wraps(command)
    def run(*, config: Path | None, context: typer.Context, **values: Any) -> None:
        if "settings" in own:
            values["settings"] = _effective(context, values)
        if "given" in own:
            values["given"] = _given(context)
        command(**values)

    everything = [p for p in own.values() if p.name not in ("settings", "given")] + list(added.values())
    # Typer reads the options from here; a function's type does not declare it.
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in everything}
    return run


def read_settings(path: Path, known: Mapping[str, str], command: str) -> dict[str, str]:
    """Read the values of options from a YAML file.

    Every value is kept as the text it is written as, and is read like an argument: to YAML, ``1:1:32``
    would be a number to the base of 60, and ``no`` false. Only text and lists of text are accepted. The
    parser's events are read one by one, so that neither nesting nor aliases can cost time or memory.

    Args:
        path: The file, of at most :data:`CONFIG_BYTES`.
        known: Names of the command's parameters by the names of its options.
        command: Its name, for messages.

    Returns:
        Text by the names of parameters; a list becomes text with commas.

    Raises:
        UsageError: no file, no YAML, an option that the command does not have, or one given twice.
    """
    import yaml

    from imf_deploy.errors import UsageError

    values: dict[str, str] = {}
    events = yaml.parse(_read(path), yaml.SafeLoader)
    try:
        for key, line in _keys(events, path):
            name, place = shorten(key, _LONGEST_NAME), f"{path}, line {line}"
            value = _value(events, f"{place}: '{name}'")
            if key not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                hint = f"The nearest is {near[0]}" if near else f"See imf-deploy {command} --help"
                raise UsageError(f"{place}: {command} has no option '{name}'", hint)
            if known[key] in values:
                raise UsageError(f"{place}: '{key}' is given twice", "Remove one of them")
            values[known[key]] = value
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path} cannot be read ({_where(error)})", _EXAMPLE) from error
    return values


def _read(path: Path) -> str:
    from imf_deploy.errors import UsageError
    from imf_deploy.files import existing_file

    try:
        with existing_file(path, "--config").open("rb") as file:
            content = file.read(CONFIG_BYTES + 1)
        if len(content) > CONFIG_BYTES:
            raise UsageError(f"--config {path} is larger than {CONFIG_BYTES >> 10} KiB", _EXAMPLE)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read ({error.strerror})", "Check the file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--config {path} cannot be read (it is not UTF-8 text)", _EXAMPLE) from error


def _keys(events: Iterator[yaml.Event], path: Path) -> Iterator[tuple[str, int]]:
    """Yield the keys of the one mapping that a file of options holds, with their lines.

    The caller takes the events of each value before it asks for the next key.
    """
    import yaml

    from imf_deploy.errors import UsageError

    # The first two are the start of the stream and of its first document.
    inside = list(itertools.islice(events, 3))[2:]
    if not inside or (isinstance(inside[0], yaml.ScalarEvent) and not inside[0].value):
        return  # no document, or nothing but comments in it
    if not isinstance(inside[0], yaml.MappingStartEvent):
        raise UsageError(f"--config {path} holds no options", _EXAMPLE)
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        line = key.start_mark.line + 1 if key.start_mark else 1
        if not isinstance(key, yaml.ScalarEvent):
            raise UsageError(f"{path}, line {line}: the name of an option must be plain text", _EXAMPLE)
        yield key.value, line
    if any(isinstance(event, yaml.DocumentStartEvent) for event in events):
        raise UsageError(f"--config {path} cannot be read (it holds several YAML documents)", "Keep one")


def _value(events: Iterator[yaml.Event], place: str) -> str:
    """Return the text of the value that begins with the next event; a list becomes text with commas."""
    import yaml

    from imf_deploy.errors import UsageError

    event = next(events)
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    if isinstance(event, yaml.AliasEvent):
        raise UsageError(f"{place} is an alias of another value", "Write the value itself")
    problem = f"{place} is neither a value nor a list of values"
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while isinstance(event := next(events), yaml.ScalarEvent):
            items.append(event.value)
        if isinstance(event, yaml.SequenceEndEvent):
            return ",".join(items)
        if isinstance(event, yaml.CollectionStartEvent):
            problem += ": it is nested too deeply"
    raise UsageError(problem, _EXAMPLE)


def _where(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the lines of the file that PyYAML would print."""
    mark = getattr(error, "problem_mark", None)
    problem = shorten(getattr(error, "problem", "") or "it holds control characters", 100)
    return f"line {mark.line + 1}: {problem}" if mark else problem


def _apply(context: typer.Context, path: Path | None) -> Path | None:
    if path:
        known = {option: name for name, option in _options(context).items()}
        given = read_settings(path, known, str(context.info_name))
        _check(context, path, given)
        # Click looks here for every option that was not given.
        context.default_map = {**(context.default_map or {}), **_as_click(context, given)}
    return path


def _check(context: typer.Context, path: Path, given: Mapping[str, str]) -> None:
    """Refuse values of the wrong type here, where the file can be named."""
    from imf_deploy.errors import UsageError

    for parameter in context.command.params:
        if parameter.name in given and not parameter.callback:
            text = given[parameter.name]
            try:
                parameter.process_value(context, _as_click(context, given)[parameter.name])
            except typer.BadParameter as error:
                option = _options(context)[parameter.name]
                raise UsageError(
                    f"--config {path}: {option}: {text} cannot be used ({error.message})",
                    f"See imf-deploy {context.info_name} --help",
                ) from error


def _as_click(context: typer.Context, given: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Return values as Click takes them: a list for an option that may be given several times."""
    several = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    return {n: [v for v in text.split(",") if v] if n in several else text for n, text in given.items()}


def _options(context: typer.Context) -> dict[str, str]:
    """Return the long names of a command's options, without dashes, by the names of its parameters."""
    return {
        str(parameter.name): max(parameter.opts, key=len).removeprefix("--")
        for parameter in context.command.params
        if parameter.param_type_name == "option" and parameter.name not in ("config", "help")
    }


def _given(context: typer.Context) -> Given:
    """Return the long names of the options that the command line gives, without dashes."""
    # Typer has a copy of Click, whose enumeration is not Click's.
    sources = {name: context.get_parameter_source(name) for name in _options(context)}
    return frozenset(
        option
        for name, option in _options(context).items()
        if (source := sources[name]) is not None and source.name == "COMMANDLINE"
    )


def _effective(context: typer.Context, values: Mapping[str, Any]) -> Settings:
    found = {option: values[name] for name, option in _options(context).items() if name in values}
    return {
        option: value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
        for option, value in found.items()
        if value is not None and value != [] and option not in _NOT_RECORDED
    }
