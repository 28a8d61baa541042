"""Processes of Python that need not import PyTorch, because they are forked from one that has.

A process that trains or exports takes two to five seconds of processor time to import what it needs. Where
a test needs a process of its own (its exit code, its streams, its limits, a signal to it) and not the start
of the interpreter, it is forked from a server that has imported all of it once for the whole test run:

- ``start`` and ``run`` are for tests. The process has real descriptors, a real exit code and its own
  environment. What the interpreter reads from the environment at its start (``PYTHONIOENCODING``,
  ``OMP_NUM_THREADS``) is the server's.
- ``python -S preloaded.py ARGUMENTS`` is for shells: it lends its own descriptors and ends as the process
  does.

Where there is no server (not on Linux, or no pytest), the processes are started in the ordinary way.
"""

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NoReturn

VARIABLE = "IMF_DEPLOY_PRELOADED"
"""The environment variable that holds the path of the server's socket."""
POSSIBLE = sys.platform == "linux" and hasattr(os, "pidfd_open")
IMPORTS = (
    "torch", "torch._dynamo", "torch.fx", "torch.onnx._internal.exporter._core", "torchvision", "accelerate",
    "onnx", "onnxscript", "onnxscript.optimizer", "onnxscript.rewriter",
    "matplotlib.backends.backend_agg", "matplotlib.pyplot", "rich.progress", "yaml", "jinja2",
    "imf_deploy.cli.app", "imf_deploy.pipeline", "imf_deploy.study.stage", "imf_deploy.train.qat",
)  # fmt: skip
Streams = tuple[int | None, int | None, int | None]


spent: list[float] = []


class Process:
    """A process that was forked by the server."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())
        self._connection = connection
        self.returncode: int | None = None
        self.seconds = 0.0
        self.stderr: IO[str] | None = None

    def wait(self, timeout: float = 300) -> int:
        """Wait for its end and return its exit code, or the negative number of a signal."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                status, seconds = self._answers.readline().split()
            except TimeoutError:
                self.kill()
                raise
            self.returncode = os.waitstatus_to_exitcode(int(status))
            self.seconds = float(seconds)
            spent.append(self.seconds)
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def ask(arguments: Sequence[str], cwd: str, env: Mapping[str, str], streams: Streams, before: str) -> Process:
    """Have the server fork a process; a stream of None is closed there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.environ[VARIABLE])
    given = [stream for stream in streams if stream is not None]
    request = {
        "arguments": list(arguments),
        "cwd": cwd,
        "env": dict(env),
        "streams": [number for number, stream in enumerate(streams) if stream is not None],
        "before": before,
    }
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], given)
    return Process(connection)


def start(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stderr: int | None = None,
    before: str = "",
) -> Process | subprocess.Popen[str]:
    """Start ``python ARGUMENTS``, with a script or ``-c CODE`` or ``-m MODULE`` first.

    Args:
        stderr: ``subprocess.PIPE``, ``subprocess.DEVNULL`` or None for that of the tests.
        before: Python code that the process runs first.
    """
    if VARIABLE not in os.environ:
        return subprocess.Popen(
            [sys.executable, *_after(before, arguments)], cwd=cwd, env=env, stderr=stderr, text=True
        )
    with Path(os.devnull).open("r+") as null:
        ends = os.pipe() if stderr == subprocess.PIPE else None
        said = ends[1] if ends else null.fileno() if stderr == subprocess.DEVNULL else 2
        process = ask(arguments, str(cwd), os.environ if env is None else env, (0, 1, said), before)
    if ends:
        os.close(ends[1])
        process.stderr = os.fdopen(ends[0])
    return process


def launch(arguments: Sequence[str], size: int, cwd: Path) -> list[Any]:
    """Start ``size`` processes as ``torchrun`` does, but end none when another has ended."""
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    if size == 1:
        return [start(arguments, cwd=cwd, env=env, stderr=subprocess.PIPE)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    return [start(arguments, cwd=cwd, env=env | rank, stderr=subprocess.PIPE) for rank in ranks]


def read_all(processes: Sequence[Any]) -> str:
    """Return what processes say on standard error until they end."""
    with ThreadPoolExecutor(len(processes)) as pool:
        return "".join(pool.map(lambda process: process.stderr.read(), processes))


def run(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    before: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` to its end; return its exit code and what it wrote."""
    if VARIABLE not in os.environ:
        return subprocess.run(
            [sys.executable, *_after(before, arguments)],
            cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    ends = os.pipe(), os.pipe()
    with Path(os.devnull).open() as null:
        streams = (null.fileno(), ends[0][1], ends[1][1])
        process = ask(arguments, str(cwd), os.environ if env is None else env, streams, before)
    for _, mine in ends:
        os.close(mine)
    out, err = _read_both([end for end, _ in ends], process, time.monotonic() + timeout)
    return subprocess.CompletedProcess(list(arguments), process.wait(), out, err)


def _read_both(ends: list[int], process: Process, until: float) -> list[str]:
    """Read two pipes to their ends; kill the process when its time is over."""
    read = {end: bytearray() for end in ends}
    with selectors.DefaultSelector() as waiting:
        for end in ends:
            waiting.register(end, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(until - time.monotonic())
            if not ready:
                process.kill()
                raise TimeoutError(f"{bytes(read[ends[1]]).decode()} [killed: its time was over]")
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                read[key.fd] += data
                if not data:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
    return [bytes(read[end]).decode() for end in ends]


def _after(before: str, arguments: Sequence[str]) -> list[str]:
    if not before:
        return list(arguments)
    return [__file__, "--plain", before, *arguments]


def _execute(arguments: Sequence[str]) -> None:
    """Do in this process what ``python ARGUMENTS`` does."""
    import runpy

    first, *rest = arguments
    if first == "-m":
        sys.argv[:] = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv[:] = arguments
        runpy.run_path(first, run_name="__main__")


def _end(asked: Mapping[str, Any]) -> NoReturn:
    """Run what was asked for and exit as the interpreter does, except that no module is torn down."""
    code = 0
    try:
        exec(asked["before"])
        _execute(asked["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if ended.code is not None and not isinstance(ended.code, int):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except OSError:
            code = 120
    os._exit(code)


def serve(path: str) -> dict[str, Any]:
    """Answer requests until standard input ends; return, in a process that was forked, its request."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(0, selectors.EVENT_READ)
    ready = False
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:  # nothing is ever written there: the tests have ended
                Path(path).unlink()
                os._exit(0)
            if key.data:
                _report_end(waiting, *key.data)
                continue
            connection, _ = listener.accept()
            request, descriptors = _receive(connection)
            if not ready:
                _import_all()
                ready = True
            pid = os.fork()
            if not pid:
                waiting.close()
                listener.close()
                connection.close()
                _take_over(request, descriptors)
                return request
            for descriptor in descriptors:
                os.close(descriptor)
            handle = os.pidfd_open(pid)
            waiting.register(handle, selectors.EVENT_READ, (handle, pid, connection))
            with contextlib.suppress(OSError):
                connection.sendall(f"{pid}\n".encode())


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 16)
    return json.loads(data), descriptors


def _report_end(waiting: selectors.BaseSelector, handle: int, pid: int, connection: socket.socket) -> None:
    waiting.unregister(handle)
    os.close(handle)
    _, status, used = os.wait4(pid, 0)
    with contextlib.suppress(OSError), connection:
        connection.sendall(f"{status} {used.ru_utime + used.ru_stime}\n".encode())


def read_torchlib_once() -> Callable[[], object]:
    """Keep what each export parses anew, the source of PyTorch's 500 operators in ONNX: a second saved.

    Returns:
        What reads it; nothing is read where PyTorch has other names for it.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal._lazy_import import onnxscript_apis

        onnxscript_apis.get_torchlib_ops = functools.cache(onnxscript_apis.get_torchlib_ops)
        return onnxscript_apis.get_torchlib_ops
    return lambda: None


def _import_all() -> None:
    import gc
    import importlib

    for name in IMPORTS:
        importlib.import_module(name)
    read_torchlib_once()()
    gc.collect()
    gc.freeze()


def _take_over(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make this process what was asked for: descriptors, folder, environment and signals."""
    given = dict(zip(request["streams"], descriptors, strict=True))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None  # as the interpreter has it where a stream is closed
        if number in given:
            os.dup2(given[number], number)
            errors = "backslashreplace" if number == 2 else "strict"
            stream = open(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            stream.reconfigure(line_buffering=number == 2 or stream.isatty())
        else:
            with contextlib.suppress(OSError):
                os.close(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Server:
    """The server of a test run, which ends with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "socket"
        command = [sys.executable, "-P", __file__, "--serve", path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not path.exists():
            time.sleep(0.01)
        os.environ[VARIABLE] = str(path)

    def close(self) -> None:
        """End it, and wait."""
        del os.environ[VARIABLE]
        self._process.communicate()
        self._folder.cleanup()


def _lend() -> None:
    """Pass what this process has got to one of the server's, and end as that one ends."""
    streams = []
    for number in range(3):
        try:
            os.fstat(number)
            streams.append(number)
        except OSError:
            streams.append(None)
    process = ask(sys.argv[1:], str(Path.cwd()), os.environ, tuple(streams), "")  # type: ignore[arg-type]
    code = process.wait(600)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _end(serve(sys.argv[2]))
    elif sys.argv[1] == "--plain":
        exec(sys.argv[2])
        _execute(sys.argv[3:])
    elif VARIABLE in os.environ:
        _lend()
    else:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
