"""Watch a build of TensorRT: feed a progress bar, and cancel the build on request."""

import threading
from collections.abc import Callable
from typing import Any

PERCENT = 100


class Progress:
    """The nested phases of a build as one fraction that never falls.

    Args:
        advance: Called with the number of percentage points gained.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._parents: dict[str, str | None] = {}
        self._steps: dict[str, tuple[int, int]] = {}  # done, total
        self._shown = 0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Start a phase inside another one."""
        self._parents[phase], self._steps[phase] = parent, (0, max(steps, 1))

    def step(self, phase: str, number: int) -> None:
        """Mark step ``number``, from 0, of a phase as done."""
        if phase in self._steps:
            _, steps = self._steps[phase]
            self._steps[phase] = (min(number + 1, steps), steps)
        self._show(phase)

    def finish(self, phase: str) -> None:
        """End a phase."""
        self._steps.pop(phase, None)
        if self._parents.pop(phase, None) is None:
            self._show_at(1.0)

    def _show(self, phase: str) -> None:
        fraction, name, seen = 0.0, phase, set()
        while name in self._steps and name not in seen:
            seen.add(name)
            done, steps = self._steps[name]
            fraction = min((done + fraction) / steps, 1.0)
            name = self._parents[name] or ""
        self._show_at(fraction)

    def _show_at(self, fraction: float) -> None:
        points = int(fraction * PERCENT) - self._shown
        if points > 0:
            self._shown += points
            self._advance(points)


def build_monitor(trt: Any, advance: Callable[[int], None], cancelled: threading.Event) -> Any:
    """Return an ``IProgressMonitor`` for one build.

    Args:
        trt: The library's module.
        advance: Called with the number of percentage points gained.
        cancelled: If set, the build ends at its next step.

    Returns:
        The monitor. Its ``error`` is the first exception that a callback raised. It cancels the build,
        because TensorRT would drop it, and is raised by the caller after the build has returned.
    """

    # The module is chosen at run time, so its classes are not types.
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._progress = Progress(advance)
            self._lock = threading.Lock()  # phases may run in several threads

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guarded(lambda: self._progress.start(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guarded(lambda: self._progress.step(phase_name, step))
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._guarded(lambda: self._progress.finish(phase_name))

        def _guarded(self, work: Callable[[], None]) -> None:
            try:
                with self._lock:
                    work()
            except BaseException as error:
                self.error = self.error or error
                cancelled.set()

    return Monitor()
