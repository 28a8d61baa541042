"""The command line: it reads options, composes stages, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from imf_deploy.cli.app import all_options, options_of, run
from imf_deploy.cli.failures import refusal, with_flags
from imf_deploy.cli.streams import flush_output, prepare_streams
from imf_deploy.errors import ImfDeployError, ReportedError, UsageError
from imf_deploy.files import write_error
from imf_deploy.processes import check_launcher, is_connected, is_first, rank, world_size

INTERRUPTED = 130
"""Exit code after Ctrl-C or a polite kill, as shells have it."""


def main() -> NoReturn:
    """Run ``imf-deploy``; the entry point of the installed command.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate was missed, 4 no such device, 130
    interrupted.
    """
    prepare_streams()
    code, several = _run()
    problem = flush_output()
    if problem and code == 0:
        _complain(write_error("the standard output", problem))
        code = 1
    if several:
        # DDP keeps Gloo's process group alive after all have parted, and its threads may abort the
        # interpreter while it shuts down: exit code -6 where everything was done.
        os._exit(code)
    sys.exit(code)


def set_thread_waits() -> None:
    """Set how long threads of OpenMP spin while they wait, unless the user has; before PyTorch is imported.

    Threads that spin for long cost nothing on an idle machine, and several times the run time beside one busy
    neighbour. A training on two CPUs waits 2,900 times a step, mostly for less time than a thread takes to
    fall asleep and wake up, so that threads spin briefly: about 10 microseconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _run() -> tuple[int, bool]:
    """Run the command; return its exit code, and whether this is one of several processes."""
    from imf_deploy.show.bars import install

    set_thread_waits()
    # A polite kill cleans up like Ctrl-C does: temporary files go, finished ones stay.
    signal.signal(signal.SIGTERM, _interrupt)
    several = False
    install(lambda text: with_flags(text, all_options()))
    try:
        check_launcher()
        several = world_size() > 1
        _check_text(sys.argv[1:])
        code = run(sys.argv[1:])
    except ImfDeployError as error:
        if not isinstance(error, ReportedError):
            _complain(error)
        return error.exit_code, several
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:  # rich ends like this where its output is closed
        if end.code is not None and not isinstance(end.code, int):
            raise
        known = refusal(end, _options())
        if known:
            _complain(known)
        code = end.code or 0
    except Exception as error:
        known = refusal(error, _options())
        if not known:
            raise
        _complain(known)
        return known.exit_code, several
    if code == INTERRUPTED:  # Typer turns an interrupt inside a command into this exit code
        _tell(
            "error: interrupted. Files that were finished are kept, and the same command goes on where a "
            "training stopped."
        )
    return code, several


def _options() -> set[str]:
    """Return the options of the command that was given; none where there is no such command."""
    return next((found for argument in sys.argv[1:] if (found := options_of(argument))), set())


def _check_text(arguments: list[str]) -> None:
    """Refuse names that no record, report or YAML file could hold, before any work is done."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise UsageError(
                f"the argument {shown} is not UTF-8 text",
                "Rename the file or the folder, or set a UTF-8 locale such as LC_ALL=C.UTF-8",
            ) from error


def _complain(error: Exception) -> None:

    what = with_flags(str(error), all_options())
    # Before they have met, all processes fail alike, and the first one says so.
    if is_connected() and rank():
        _write(f"error: process {rank()}: {what}")
    else:
        _tell(f"error: {what}")


def _tell(line: str) -> None:

    with contextlib.suppress(UsageError):  # then the line is about the variables that say who is first
        if not is_first():
            return
    _write(line)


def _write(line: str) -> None:
    with contextlib.suppress(OSError):  # closed or full: there is nowhere left to complain
        sys.stderr.write(f"{line}\n")


def _interrupt(_signal: int, _frame: object) -> None:
    # Not by way of SIGINT, which a shell's background jobs ignore.
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
