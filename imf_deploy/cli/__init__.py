"""The command line: it reads options, composes stages, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from imf_deploy.cli.app import options_of, run
from imf_deploy.cli.failures import refusal, with_flags
from imf_deploy.cli.streams import flush_output, prepare_streams
from imf_deploy.errors import ImfDeployError, ReportedError, UsageError
from imf_deploy.files import write_error
from imf_deploy.processes import check_launcher, is_connected, is_first, rank, world_size

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells define it."""


def main() -> NoReturn:
    """Run ``imf-deploy``; the entry point of the installed command.

    Exit codes: 0 for success, 1 for a failure, 2 for wrong usage, 3 for a missed gate, 4 for a missing
    device, 130 for an interrupt.
    """
    prepare_streams()
    code, several = _run()
    problem = flush_output()
    if problem and code == 0:
        _complain(write_error("the standard output", problem))
        code = 1
    if several:
        # DDP keeps Gloo's process group alive after it was destroyed, and its threads may abort the
        # interpreter at shutdown: exit code -6 although everything succeeded.
        os._exit(code)
    sys.exit(code)


def set_thread_waits() -> None:
    """Set how long waiting OpenMP threads spin, unless the user has set it; call before importing PyTorch.

    Long spinning costs nothing on an idle machine, but multiplies the run time when another process is busy.
    A training on two CPUs waits 2,900 times per step, mostly for less time than a thread takes to fall asleep
    and wake up. Threads therefore spin briefly: about 10 microseconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _run() -> tuple[int, bool]:
    """Run the command; return its exit code, and whether this is one of several processes."""
    from imf_deploy.show.bars import install

    set_thread_waits()
    # SIGTERM cleans up like Ctrl-C: temporary files are removed, finished files stay.
    signal.signal(signal.SIGTERM, _interrupt)
    several = False
    install(with_flags)
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
    except SystemExit as end:  # rich raises it when its output is closed
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
    if code == INTERRUPTED:
        _print_once(
            "error: interrupted. Finished files are kept, and the same command resumes an unfinished "
            "training."
        )
    return code, several


def _options() -> set[str]:
    """Return the options of the given command; an empty set for an unknown command."""
    return next((options for argument in sys.argv[1:] if (options := options_of(argument))), set())


def _check_text(arguments: list[str]) -> None:
    """Reject names that a record, report or YAML file cannot hold, before any work is done."""
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

    what = with_flags(str(error))
    # Before the processes are connected, all fail alike, and the first one reports it.
    if is_connected() and rank():
        _write(f"error: process {rank()}: {what}")
    else:
        _print_once(f"error: {what}")


def _print_once(line: str) -> None:

    with contextlib.suppress(UsageError):  # the line reports that the rank variables are invalid
        if not is_first():
            return
    _write(line)


def _write(line: str) -> None:
    with contextlib.suppress(OSError):  # closed or full: the message cannot be shown
        sys.stderr.write(f"{line}\n")


def _interrupt(_signal: int, _frame: object) -> None:
    # Not through SIGINT, which a shell's background jobs ignore.
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
