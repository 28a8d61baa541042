"""``--config FILE.yaml`` and ``--preset NAME``: values of options that the command line does not give."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from attrs import evolve
from cyclopts import App, Argument, ArgumentCollection, Token

from imf_deploy.errors import UsageError
from imf_deploy.settings.base import Text
from imf_deploy.untrusted import shorten

_EXAMPLE = "Write lines such as epochs: 7"

CONFIG_BYTES = 64 << 10
"""Largest file of options that is read; a file with every option of a command has 3 kB."""
_LONGEST_NAME = 60
_FILE, _PRESET = "--config", "--preset"


@dataclass
class Sources:
    """Fills in options that the command line does not give: from the file first, then from the preset.

    Attributes:
        given: Names of the options that the command line gives, without dashes.
        read: Text that the file gives, by the names of options.
        path: The file.
    """

    given: frozenset[str] = frozenset()
    read: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    def __call__(self, _app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Add the values; called by cyclopts between reading the command line and converting it."""
        options = {
            argument.name.removeprefix("--"): argument
            for argument in arguments
            if argument.parse and argument.name.startswith("--") and not argument.children
        }
        for argument in options.values():  # the last of several values counts, unless they form a list
            if _repeats(argument) and argument.tokens:
                joined = ",".join(token.value for token in argument.tokens)
                argument.tokens = [evolve(argument.tokens[-1], value=joined)]
            elif not _takes_several(argument):
                argument.tokens = argument.tokens[-1:]
        self.given = frozenset(name for name, argument in options.items() if argument.tokens)
        self.path, self.read, command = None, {}, commands[-1] if commands else ""

        def value(name: str) -> str:
            argument = options.get(name.removeprefix("--"))
            return argument.tokens[0].value if argument and argument.tokens else ""

        def fill(values: Mapping[str, str], source: str) -> None:
            for name, text in values.items():
                if (argument := options.get(name)) and not argument.tokens:
                    for word in text.split(",") if _takes_several(argument) else [text]:
                        argument.append(Token(keyword=f"--{name}", value=word, source=source))

        if value(_FILE):
            self.path = Path(value(_FILE))
            known = {name: name for name in options if name != "config"}
            self.read = read_settings(self.path, known, command)
            fill(self.read, str(self.path))
        if value(_PRESET):
            from imf_deploy.training.presets import find_preset

            preset = find_preset(value(_PRESET)).options(teacher=command == "train-teacher")
            texts = {
                name.replace("_", "-"): ",".join(map(str, setting))
                if isinstance(setting, tuple)
                else str(setting)
                for name, setting in preset.items()
            }
            fill(texts, _PRESET)


def _takes_several(argument: Argument) -> bool:
    return argument.parameter.n_tokens is None and argument.token_count()[1]


def _repeats(argument: Argument) -> bool:
    marks = getattr(argument.field_info.annotation, "__metadata__", ())
    return any(isinstance(mark, Text) and mark.repeats for mark in marks)


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
        UsageError: the file does not exist or is not YAML, an option is unknown, or one is given twice.
    """
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
