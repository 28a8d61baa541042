"""Run native code that calls back into Python, so that an interrupt is not lost inside a callback.

Python raises ``KeyboardInterrupt`` between two bytecodes of the main thread. While a C++ library holds
that thread, the only bytecodes are those of its callbacks, and the library prints and drops whatever
a callback raises. Here the library works in a thread of its own, where no signal is delivered, and the
main thread waits for it in Python.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

_POLL_S = 0.1
"""On Windows a signal does not end a wait, so the wait is cut into pieces."""


def run_in_background(work: Callable[[], object], cancelled: threading.Event | None = None) -> None:
    """Run ``work`` to its end in another thread, on the current CUDA device of this one.

    Args:
        work: What to run. It keeps its own result, which is dropped where an interrupt arrives.
        cancelled: Set when an interrupt arrives; ``work`` may watch it and end early.

    Raises:
        KeyboardInterrupt: it arrived meanwhile; raised when ``work`` has ended, whatever that made.
        BaseException: as ``work`` raised it.
    """
    cancelled = cancelled or threading.Event()
    waited_for, abandoned, done = threading.Event(), threading.Event(), threading.Event()
    errors: list[BaseException] = []
    device = _cuda_device()
    context = contextvars.copy_context()

    def body() -> None:
        waited_for.wait()
        try:
            if abandoned.is_set():
                return
            if device is not None:
                import torch

                torch.cuda.set_device(device)  # each thread has a current device of its own
            context.run(work)
        except BaseException as error:  # raised again in the thread that waits
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=body, name="imf-deploy-background").start()
        interrupt = _wait(waited_for, done, cancelled)
    except KeyboardInterrupt:  # before the work began
        abandoned.set()
        raise
    finally:
        waited_for.set()
    if interrupt:
        raise interrupt
    if errors:
        raise errors[0]


def _wait(
    waited_for: threading.Event, done: threading.Event, cancelled: threading.Event
) -> KeyboardInterrupt | None:
    """Wait until the work is done; return the first interrupt that arrived meanwhile."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            waited_for.set()
            while not done.wait(_POLL_S):
                pass
            break
        except KeyboardInterrupt as error:  # another one while the work ends changes nothing
            interrupt = interrupt or error
            cancelled.set()
    return interrupt


def _cuda_device() -> int | None:
    """Return the current CUDA device of this thread; nothing where there is none."""
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else None
