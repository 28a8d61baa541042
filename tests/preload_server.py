"""The process that imports PyTorch once and is forked for every process that tests start; see preloaded.py.

python preload_server.py SOCKET                    answers requests until standard input ends
python preload_server.py --plain CODE ARGUMENTS    runs code, and then what python ARGUMENTS does
"""

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

IMPORTS = (
    "torch", "torch._dynamo", "torch.fx", "torch.onnx._internal.exporter._core", "torchvision", "accelerate",
    "onnx", "onnxscript", "onnxscript.optimizer", "onnxscript.rewriter",
    "matplotlib.backends.backend_agg", "matplotlib.pyplot", "rich.progress", "yaml", "jinja2",
    "imf_deploy.cli.app", "imf_deploy.pipeline", "imf_deploy.study.stage", "imf_deploy.calib.qat",
)  # fmt: skip


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
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError), connection:
        connection.sendall(f"{status}\n".encode())


def read_torchlib_once() -> Callable[[], Any]:
    """Keep what each export parses anew, the source of PyTorch's 500 operators in ONNX: a second saved.

    Returns:
        What reads it; nothing is read where PyTorch has other names for it.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal._lazy_import import onnxscript_apis

        onnxscript_apis.get_torchlib_ops = functools.cache(onnxscript_apis.get_torchlib_ops)
        read: Callable[[], Any] = onnxscript_apis.get_torchlib_ops
        return read
    return lambda: None


def _import_all() -> None:
    import gc
    import importlib

    for name in IMPORTS:
        with contextlib.suppress(ImportError):  # whoever needs it says so
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


def execute(arguments: Sequence[str]) -> None:
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


def end(asked: Mapping[str, Any]) -> NoReturn:
    """Run what was asked for and exit as the interpreter does, except that no module is torn down."""
    code = 0
    try:
        exec(asked["before"])
        execute(asked["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if ended.code is not None and not isinstance(ended.code, int):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except OSError:
            code = 120
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--plain":
        exec(sys.argv[2])
        execute(sys.argv[3:])
    else:
        end(serve(sys.argv[1]))
