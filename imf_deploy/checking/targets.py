"""The runtimes that a file can be checked in, by the names that users type."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imf_deploy.checking.clients import ONNXRUNTIME, OPENCV, OPENVINO, TRACT, Client
from imf_deploy.errors import UsageError
from imf_deploy.untrusted import shorten

TENSORRT = "tensorrt"
_TARGET = re.compile(r"([a-z]+)(?:==([0-9]{1,5}(?:\.[0-9]{1,5}){0,3}))?")


@dataclass(frozen=True)
class _Package:
    """The package of a runtime.

    Attributes:
        name: Its name in the registry.
        script: Python code that runs it; empty for npm.
        numpy_2: First version that works with NumPy 2.
    """

    name: str
    script: str = ""
    numpy_2: tuple[int, ...] = ()


_PACKAGES = {
    "onnxruntime": _Package("onnxruntime", ONNXRUNTIME, (1, 19)),
    "openvino": _Package("openvino", OPENVINO, (2024, 3)),
    "opencv": _Package("opencv-python-headless", OPENCV, (4, 10)),
    "tract": _Package("tract", TRACT),
    "node": _Package("onnxruntime-node"),
    "web": _Package("onnxruntime-web"),
}


@dataclass(frozen=True)
class Target:
    """A runtime in one version.

    Attributes:
        runtime: A key of the packages, or ``tensorrt``.
        version: Its version, or the beginning of it; empty for the newest.
    """

    runtime: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.runtime}=={self.version}" if self.version else self.runtime

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers; empty for the newest."""
        return tuple(map(int, self.version.split("."))) if self.version else ()

    def client(self) -> Client:
        """Return how it is installed and run."""
        package = _PACKAGES[self.runtime]
        if not package.script:
            return Client(str(self), (f"{package.name}@{self.version or 'latest'}",))
        wanted = f"{package.name}=={self.version}.*" if self.version else package.name
        old = bool(self.numbers) and self.numbers < package.numpy_2
        return Client(str(self), (wanted, "numpy<2" if old else "numpy"), package.script)


def read_target(text: str) -> Target:
    """Read a runtime such as ``onnxruntime==1.18``.

    Raises:
        UsageError: there is no such runtime, or the version has another form.
    """
    match = _TARGET.fullmatch(text)
    known = [*_PACKAGES, TENSORRT]
    if match is None or match[1] not in known:
        raise UsageError(
            f"`runtime` {shorten(text, 40)} is not known",
            f"Use {', '.join(known)}, or one with a version, such as onnxruntime==1.18",
        )
    if match[1] == TENSORRT and match[2]:
        raise UsageError(
            "`runtime` tensorrt is the one that is installed here", "Leave its version out, or install it"
        )
    return Target(match[1], match[2] or "")
