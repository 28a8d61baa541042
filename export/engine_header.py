"""Read the header of a TensorRT engine without TensorRT and without a GPU.

Loading an untrusted or damaged engine can crash the whole process, so its header is checked first. The layout
was found by comparing engines that were built with different settings; the position of the version is
documented by NVIDIA (github.com/NVIDIA/TensorRT/issues/3073).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file
from imf_deploy.settings.export import Flavour

_MAGIC: dict[bytes, Flavour] = {b"ftrt": "tensorrt", b"vtrt": "rtx"}
_HEADER = 40
_TARGETS = {1: "75", 2: "80", 4: "86", 8: "89", 16: "120", 32: "121"}
# Minimum for an engine without targets: 1.4 sets these bits, 1.7 one more that has no name.
_PORTABLE = 2 | 4 | 8 | 16 | 32
# Ultralytics writes its metadata before the plan; a longer prefix is not metadata.
_LONGEST_PREFIX = 1 << 20


@dataclass(frozen=True)
class EngineHeader:
    """The contents of the first bytes of an engine.

    Attributes:
        flavour: ``rtx`` (TensorRT-RTX) or ``tensorrt``.
        version: Version of the library that built it, such as ``1.7.1.116``; another version may refuse it.
        offset: Offset of the plan in bytes; above zero if there is a JSON prefix.
        size: Size of the plan in bytes; for ``rtx`` it is compared with the file.
        targets: Compute capabilities such as ``86`` that an RTX engine was built for; empty for ``tensorrt``,
            which builds for the current GPU and does not record which.
        portable: Whether an RTX engine covers every architecture from Ampere on that has a name here.
    """

    flavour: Flavour
    version: str
    offset: int
    size: int
    targets: tuple[str, ...]
    portable: bool


def read_engine_header(path: Path) -> EngineHeader:
    """Read the header of an engine file.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is not a TensorRT engine, or is truncated.
    """
    existing_file(path, "the TensorRT engine")
    try:
        with path.open("rb") as file:
            total = file.seek(0, 2)
            file.seek(0)
            offset = _prefix(file.read(_LONGEST_PREFIX + 4))
            file.seek(offset)
            header = file.read(_HEADER)
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error
    flavour = _MAGIC.get(header[:4])
    if flavour is None:
        raise ImfDeployError(f"{path} is not a TensorRT engine", "Build it again from its ONNX file")
    if len(header) < _HEADER:
        raise ImfDeployError(f"{path} is truncated after {total} bytes", "Build it again")
    version = ".".join(str(number) for number in header[24:28])
    size = total - offset
    if flavour == "tensorrt":
        return EngineHeader(flavour, version, offset, size, (), portable=False)
    expected = int.from_bytes(header[16:24], "little")
    if expected != size:
        raise ImfDeployError(f"{path} should hold {expected} bytes, but has {size}", "Build or copy it again")
    mask = int.from_bytes(header[32:40], "little")
    if header[28:32] != header[:4] or not mask:
        raise ImfDeployError(f"the header of {path} is damaged", "Build or copy it again")
    targets = tuple(name for bit, name in _TARGETS.items() if mask & bit)
    return EngineHeader(flavour, version, offset, size, targets, portable=mask & _PORTABLE == _PORTABLE)


def _prefix(start: bytes) -> int:
    """Return the length of Ultralytics' prefix: a little-endian length, then JSON; or zero."""
    if start[:4] in _MAGIC:
        return 0
    length = int.from_bytes(start[:4], "little")
    text = start[4 : 4 + length]
    if not text or len(text) < length:
        return 0
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    return 4 + length if isinstance(content, dict) else 0
