"""The command line: it reads options, composes stages, and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""Exit code after Ctrl-C or a polite kill, as shells have it."""


def main() -> None:
    """Run ``imf-deploy``; the entry point of the installed command.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate was missed, 4 no such device, 130
    interrupted.
    """
    from imf_deploy.processes import world_size

    try:
        _run()
    except SystemExit as end:
        if world_size() > 1 and isinstance(end.code, int | None):
            # DDP keeps Gloo's process group alive after all have parted, and its threads may abort the
            # interpreter while it shuts down: exit code -6 where everything was done.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        raise


def _run() -> None:
    """Run the command and turn errors into messages and exit codes."""
    from imf_deploy.errors import ImfDeployError
    from imf_deploy.files import WRITE_PROBLEMS, write_error
    from imf_deploy.processes import is_first

    # OpenMP threads that spin while they wait cost nothing on an idle machine, and several times
    # the run time beside one busy neighbour. OpenMP reads this when PyTorch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A polite kill cleans up like Ctrl-C does: temporary files go, finished ones stay.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from imf_deploy.cli.app import app

        app()
    except ImfDeployError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # Permissions and full disks wherever they are met; anything else is a bug and keeps its traceback.
        if error.errno not in WRITE_PROBLEMS or not error.filename:
            raise
        sys.stderr.write(f"error: {write_error(error.filename, error, 'use')}\n")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns an interrupt inside a command into this exit code, without a word.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        if is_first():
            sys.stderr.write(
                "error: interrupted. Files that were finished are kept, and the same command goes on where a "
                "training stopped.\n"
            )
        sys.exit(INTERRUPTED)


def _complain(error: Exception) -> None:
    from imf_deploy.processes import has_met, is_first, rank

    if is_first():
        sys.stderr.write(f"error: {error}\n")
    elif has_met():  # before that all processes fail alike
        sys.stderr.write(f"error: process {rank()}: {error}\n")


def _interrupt(_signal: int, _frame: object) -> None:
    # Not by way of SIGINT, which a shell's background jobs ignore.
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
