"""Functions of the user's, by the name ``package.module:function``."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError


def load_function(path: str, kind: str, example: str = "package.module:function") -> Callable[..., Any]:
    """Import a function.

    Args:
        path: Its name.
        kind: What it is, in messages: ``model``.
        example: What to give instead, in messages.

    Raises:
        UsageError: there is no such module or function.
        ImfDeployError: importing the module fails.
    """
    module_name, _, function_name = path.partition(":")
    try:
        with working_folder_last():
            function: Any = getattr(importlib.import_module(module_name), function_name, None)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"there is no module for the {kind} '{path}' ({error})",
            f"Use {example}, installed or in the working folder",
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise ImfDeployError(f"importing {module_name} failed ({type(error).__name__}: {error})") from error
    if not callable(function):
        raise UsageError(f"{module_name} has no function '{function_name}'", f"Use {example}")
    return function  # type: ignore[no-any-return]


@contextlib.contextmanager
def working_folder_last() -> Iterator[None]:
    """Let modules in the working folder be found, after all installed packages."""
    sys.path.append("")
    try:
        yield
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index("")]
