"""Run native code that calls back into Python, so that an interrupt is not lost inside a callback.

Python raises ``KeyboardInterrupt`` between two bytecodes of the main thread. While a C++ library holds that
thread, the only bytecodes are those of its callbacks, and the library prints and drops whatever a callback
raises. Here the library runs in a separate thread, where no signal is delivered, and the main thread waits
for it in Python.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_POLL_S = 0.1
"""On Windows a signal does not end a wait, so the wait is divided into intervals."""


def run_in_background(work: Callable[[], Result], cancelled: threading.Event | None = None) -> Result:
    """Run ``work`` to its end in another thread, on the current CUDA device of this one.

    Args:
        work: Function to run. Its result is dropped if an interrupt arrives.
        cancelled: Set when an interrupt arrives; ``work`` may watch it and end early.

    Raises:
        KeyboardInterrupt: an interrupt arrived; raised when ``work`` has ended, whatever its result.
        BaseException: raised by ``work``.
    """
    import torch

    cancelled = cancelled or threading.Event()
    waited_for, abandoned, done = threading.Event(), threading.Event(), threading.Event()
    errors: list[BaseException] = []
    results: list[Result] = []
    device = torch.cuda.current_device() if torch.cuda.is_available() else None
    context = contextvars.copy_context()

    def body() -> None:
        waited_for.wait()
        try:
            if abandoned.is_set():
                return
            if device is not None:
                torch.cuda.set_device(device)  # each thread has its own current device
            results.append(context.run(work))
        except BaseException as error:  # raised again in the waiting thread
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=body, name="imf-deploy-background").start()
        interrupt = _wait(waited_for, done, cancelled)
    except KeyboardInterrupt:  # before the work started
        abandoned.set()
        raise
    finally:
        waited_for.set()
    if failure := interrupt or next(iter(errors), None):
        raise failure
    return results[0]


def _wait(
    waited_for: threading.Event, done: threading.Event, cancelled: threading.Event
) -> KeyboardInterrupt | None:
    """Wait until the work is done; return the first interrupt that arrived during the wait."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            waited_for.set()
            while not done.wait(_POLL_S):
                pass
            break
        except KeyboardInterrupt as error:  # further ones are ignored while the work ends
            interrupt = interrupt or error
            cancelled.set()
    return interrupt
