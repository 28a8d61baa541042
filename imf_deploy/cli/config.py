"""``--config FILE.yaml``: options of a command from a file, and back into one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import yaml

Command = Callable[..., None]
Settings = dict[str, Any]
"""Values by the long names of options, without dashes."""

# Where to write, and whether over another run, is no part of what a run is.
_NOT_RECORDED = {"config", "output", "overwrite"}
_EXAMPLE = "Write lines such as epochs: 7"


def configurable(command: Command) -> Command:
    """Give a command ``--config``; one with a parameter ``settings`` gets what its options came to."""
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
        command(**values)

    everything = [p for p in own.values() if p.name != "settings"] + list(added.values())
    # Typer reads the options from here; a function's type does not declare it.
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in everything}
    return run


def read_settings(path: Path, known: Mapping[str, str], command: str) -> dict[str, str]:
    """Read the values of options from a YAML file.

    Every value is kept as the text it is written as, and is read like an argument: to YAML, ``1:1:32``
    would be a number to the base of 60, and ``no`` false. Nothing but text and lists is ever made of it.

    Args:
        path: The file.
        known: Names of the command's parameters by the names of its options.
        command: Its name, for messages.

    Returns:
        Text by the names of parameters; a list becomes text with commas.

    Raises:
        UsageError: no file, no YAML, an option that the command does not have, or one given twice.
    """
    import yaml

    from imf_deploy.errors import UsageError
    from imf_deploy.files import existing_file

    try:
        root = yaml.compose(existing_file(path, "--config").read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path} cannot be read ({reason})", _EXAMPLE) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"--config {path} holds no options", _EXAMPLE)
    values: dict[str, str] = {}
    for key, value in root.value:
        name, place = str(key.value), f"{path}, line {key.start_mark.line + 1}"
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"The nearest is {near[0]}" if near else f"See imf-deploy {command} --help"
            raise UsageError(f"{place}: {command} has no option '{name}'", hint)
        if known[name] in values:
            raise UsageError(f"{place}: '{name}' is there twice", "Remove one of them")
        values[known[name]] = _text(value, f"{place}: '{name}'")
    return values


def _text(node: yaml.Node, place: str) -> str:
    import yaml

    from imf_deploy.errors import UsageError

    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(n, yaml.ScalarNode) for n in node.value):
        return ",".join(str(n.value) for n in node.value)
    raise UsageError(f"{place} is neither a value nor a list of values", _EXAMPLE)


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


def _effective(context: typer.Context, values: Mapping[str, Any]) -> Settings:
    found = {option: values[name] for name, option in _options(context).items() if name in values}
    return {
        option: value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
        for option, value in found.items()
        if value is not None and value != [] and option not in _NOT_RECORDED
    }
