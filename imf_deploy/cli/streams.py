"""Standard streams that cannot stop a command: closed, full, or in an encoding that lacks characters."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from io import TextIOWrapper

_ASCII = {"–": "-", "→": "->", "×": "x", "±": "+-", "…": "...", "²": "2", "·": "*"}
_ERRORS = "imf_deploy.lookalike"


def prepare_streams() -> None:
    r"""Make standard output and standard error usable.

    A closed stream becomes the null device. Otherwise a file of the command could get its descriptor, and
    receive what native libraries print. A character that the encoding lacks is replaced by a lookalike or an
    escape such as ``\u2013``.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # it gets the lowest free descriptor, which is this one
            setattr(sys, name, open(os.devnull, "r+" if number == 0 else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    codecs.register_error(_ERRORS, _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _lookalike(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    if char in _ASCII:
        return _ASCII[char], error.start + 1
    return char.encode("ascii", "backslashreplace").decode(), error.start + 1


def flush_output() -> OSError | None:
    """Flush standard output and standard error.

    Returns:
        The error of standard output, or ``None``. Text that a stream did not accept is dropped, so that the
        interpreter does not fail on it at shutdown.
    """
    problem = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            discard(stream.fileno())
            problem = error if stream is sys.stdout else problem
    return problem


def discard(number: int) -> None:
    """Redirect a file descriptor to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
