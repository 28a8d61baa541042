"""Errors of the machine, such as a full disk or memory, as one message whatever library raised them."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.metadata import requires

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import write_problem

_MEMORY = ("can't allocate memory", "not enough memory", "bad allocation", "bad_alloc", "out of memory")
# Options that decide how much memory a command takes; where a command has both, the first one matters.
_BATCHES, _OTHERS = ("--batch-size", "--batch"), ("--image-size", "--jobs")


_NAMED = re.compile("`([a-z][a-z0-9_]*)`")


def with_flags(text: str) -> str:
    """Return a message with its settings named as options, such as ``--max-accuracy-drop``.

    Args:
        text: The message of a library function, which names a setting as `` `max_accuracy_drop` ``.
    """
    from imf_deploy.cli.app import all_options

    def flag(match: re.Match[str]) -> str:
        option = f"--{match[1].replace('_', '-')}"
        return option if option in all_options() else match[0]

    return _NAMED.sub(flag, text)


def refusal(error: BaseException, options: Collection[str]) -> ImfDeployError | None:
    """Return the error to report for an exception that the machine caused; ``None`` for a bug.

    Args:
        error: The exception that escaped a command.
        options: Options of the command, such as ``--batch-size``.
    """
    if problem := write_problem(error):
        return problem
    if isinstance(error, ModuleNotFoundError) and error.name in _required():
        return ImfDeployError(
            f"this command needs the Python package {error.name}, which is not installed",
            f"Install it: pip install {error.name}",
        )
    memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY)
    )
    if memory:
        own = [option for option in _BATCHES if option in options][:1]
        own += [option for option in _OTHERS if option in options]
        hint = f"Give a smaller {' or '.join(own)}, or use" if own else "Use"
        return ImfDeployError("the machine is out of memory", f"{hint} a machine with more memory")
    return None


def _required() -> set[str]:
    """Return the packages that this one is installed with, unless it is installed by ``--no-deps``."""
    return {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in requires("imf-deploy") or ()}
