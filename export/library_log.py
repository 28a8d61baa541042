"""TensorRT's messages: collected, and kept off the terminal."""

import importlib
from collections import deque
from functools import cache
from typing import Any

from imf_deploy.export.flavour import LIBRARIES
from imf_deploy.settings.export import Flavour

# Logged after every error on a machine without a GPU; it is not the cause.
_NOISE = "CUDA driver version is insufficient"


@cache
def library_log(flavour: Flavour) -> Any:
    """Return the only logger of a library, for builders, parsers and runtimes.

    TensorRT keeps the first logger of a process, and sends all messages to it.

    Returns:
        An ``ILogger`` with ``errors`` and ``warnings`` (the last 20 of each, one line each), ``clear`` and
        ``reason``.
    """
    trt = importlib.import_module(LIBRARIES[flavour].module)

    # The module is chosen at run time, so its classes are not types.
    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            # Called from C++, which drops exceptions: see imf_deploy.export.background.
            text = one_line(message)
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR) and _NOISE not in text:
                self.errors.append(text)

        def reason(self) -> str:
            """Return the last errors in one clause."""
            return "; ".join(list(self.errors)[-3:]).rstrip(".") or "it gave no reason"

    return Collector()


def one_line(text: str) -> str:
    """Return a text without line breaks and repeated spaces."""
    return " ".join(text.split())
