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
    from imf_deploy.errors import ImfDeployError

    # OpenMP threads that spin while they wait cost nothing on an idle machine, and several times
    # the run time beside one busy neighbour. OpenMP reads this when PyTorch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A polite kill cleans up like Ctrl-C does: temporary files go, finished ones stay.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        from imf_deploy.cli.app import app

        app()
    except ImfDeployError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns an interrupt inside a command into this exit code, without a word.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        sys.stderr.write(
            "error: interrupted. What was finished is kept; the same command goes on from there.\n"
        )
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
