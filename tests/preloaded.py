"""Processes of Python that need not import PyTorch, because they are forked from one that has.

A process that trains or exports takes two to five seconds of processor time to import what it needs. Where
a test needs a process of its own (its exit code, its streams, its limits, a signal to it) and not the start
of the interpreter, it is forked from a server that has imported all of it once for the whole test run:

- ``start`` and ``run`` are for tests. The process has real descriptors, a real exit code and its own
  environment. What the interpreter reads from the environment at its start (``PYTHONIOENCODING``,
  ``OMP_NUM_THREADS``) is the server's.
- ``python -S preloaded.py ARGUMENTS`` is for shells: it lends its own descriptors and ends as the process
  does.

Where there is no server (not on Linux, or beside a GPU), the processes are started in the ordinary way.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

VARIABLE = "IMF_DEPLOY_PRELOADED"
"""The environment variable that holds the path of the server's socket."""
POSSIBLE = sys.platform == "linux" and hasattr(os, "pidfd_open") and not Path("/dev/nvidiactl").exists()
"""Whether processes can be forked. Beside a GPU, a library that asks for it while it is imported would break
CUDA in them."""
SERVER = Path(__file__).with_name("preload_server.py")
Streams = tuple[int | None, int | None, int | None]


class Process:
    """A process that was forked by the server."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())
        self._connection = connection
        self.returncode: int | None = None
        self.stderr: IO[str] | None = None

    def wait(self, timeout: float = 300) -> int:
        """Wait for its end and return its exit code, or the negative number of a signal."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                status = self._answers.readline()
            except TimeoutError:
                self.kill()
                raise
            self.returncode = os.waitstatus_to_exitcode(int(status))
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
    return [str(SERVER), "--plain", before, *arguments]


class Server:
    """The server of a test run, which ends with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "socket"
        command = [sys.executable, "-P", str(SERVER), str(path)]
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
    streams: list[int | None] = []
    for number in range(3):
        try:
            os.fstat(number)
            streams.append(number)
        except OSError:
            streams.append(None)
    process = ask(sys.argv[1:], str(Path.cwd()), os.environ, (streams[0], streams[1], streams[2]), "")
    code = process.wait(600)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if VARIABLE in os.environ:
        _lend()
    else:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
