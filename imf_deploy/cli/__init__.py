"""The command line: it reads options, composes stages, and turns errors into exit codes."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run ``imf-deploy``; the entry point of the installed command.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate was missed, 4 no such device, 130
    interrupted.
    """
    from imf_deploy.cli.app import app
    from imf_deploy.errors import ImfDeployError

    # A polite kill cleans up like Ctrl-C does: temporary files go, finished ones stay.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        app()
    except ImfDeployError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
