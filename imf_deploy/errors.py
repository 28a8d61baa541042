"""Errors that a user can cause: what failed, why, and what to type next.

The command line prints them on one line, without a traceback, and exits with their code. Any other exception
is a bug and keeps its traceback.
"""

from unicodedata import category


class ImfDeployError(Exception):
    """Base of every error that is not a bug (exit code 1).

    Args:
        what: What failed, and why, in one sentence without a full stop.
        hint: What to do next, in one sentence without a full stop.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        # Names from files, folders and headers appear in these sentences, and must not control a terminal.
        self.what = visible(_bounded(what))
        self.hint = visible(_bounded(hint))
        super().__init__(f"{self.what}. {self.hint}." if hint else f"{self.what}.")


class DivergedError(ImfDeployError):
    """Raised when the loss, weights or statistics of a training are no longer finite."""


class ReportedError(ImfDeployError):
    """The first of several processes has failed and reports why; this one ends with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("the first process failed", "Its message has the reason")
        self.exit_code = exit_code


class UsageError(ImfDeployError):
    """An option, a name or a path that cannot be used as given (exit code 2)."""

    exit_code = 2


class GateError(ImfDeployError):
    """A file that was made, but misses its parity or accuracy gate (exit code 3)."""

    exit_code = 3


class DeviceError(ImfDeployError):
    """Work that needs a device which this machine does not have (exit code 4)."""

    exit_code = 4


_LONGEST = 1000


def _bounded(text: str) -> str:
    """Return a sentence without the middle of a long text from outside."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def visible(text: str) -> str:
    r"""Return a text from outside for a terminal, with control characters as ``\x1b``."""
    # Cf: formatting characters that reverse the text direction and let a name look like another one.
    return "".join(
        char.encode("unicode_escape").decode() if category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in text
    )


def first_line(error: BaseException) -> str:
    """Return the first line of the root cause of an error, or its type where it has no text."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
