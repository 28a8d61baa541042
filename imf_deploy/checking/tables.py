"""What runtimes load, for a check without a registry: opsets, versions of the format, and known faults.

Sources: ONNX Runtime's page on compatibility (each release implements one ONNX release) and its own messages,
``onnx.helper.VERSION_TABLE``, and runs of this project's files in each client (docs/onnx.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imf_deploy.checking.targets import Target
from imf_deploy.export.onnx_file import describe_model, read_model

_ONNXRUNTIME = {
    (1, 12): (17, 8), (1, 13): (17, 8), (1, 14): (18, 8), (1, 15): (19, 8), (1, 16): (19, 9),
    (1, 17): (20, 9), (1, 18): (21, 10), (1, 19): (21, 10), (1, 20): (21, 10), (1, 21): (22, 10),
}  # fmt: skip
"""The newest opset and version of the format of each release of ONNX Runtime; later ones load no less."""
_LIKE_ONNXRUNTIME = ("onnxruntime", "node", "web")


@dataclass(frozen=True)
class Known:
    """What the tables say about a file in a runtime.

    Attributes:
        loads: Whether it loads and answers right; ``None`` if the tables do not say.
        reason: Why.
    """

    loads: bool | None
    reason: str


def look_up(target: Target, path: Path) -> Known:
    """Return what is known of a file in a runtime, without running either."""
    model = read_model(path)
    info = describe_model(path, model)
    if target.runtime in _LIKE_ONNXRUNTIME:
        return _onnxruntime(target, info.opset, model.ir_version)
    if target.runtime == "opencv" and (fault := _opencv(target.numbers, info.operators)):
        return Known(False, fault)
    return Known(None, f"there is no table of what {target} loads")


def _onnxruntime(target: Target, opset: int, form: int) -> Known:
    last = max(_ONNXRUNTIME)
    own = (target.numbers[0], target.numbers[1]) if len(target.numbers) > 1 else last
    if own < min(_ONNXRUNTIME) or len(target.numbers) == 1:
        return Known(None, f"there is no table of what {target} loads")
    newest, newest_form = _ONNXRUNTIME[min(own, last)]
    later = own > last or not target.numbers
    facts = f"the file has opset {opset} and IR {form}, {target} loads {newest} and {newest_form}"
    if opset <= newest and form <= newest_form:
        return Known(True, f"{facts}{' at least' if later else ''}")
    return Known(None if later else False, facts)


def _opencv(version: tuple[int, ...], operators: dict[str, int]) -> str:
    """Return a known fault of OpenCV with such a file; empty without one."""
    quantised = "QuantizeLinear" in operators
    if version and version < (4, 9) and "ReduceMean" in operators:
        return "OpenCV before 4.9 refuses ReduceMean, or computes it wrongly without a message"
    if quantised and (4, 9) <= version < (5,):
        return "OpenCV 4.9 to 4.13 is right on INT8 files only for single images"
    if quantised and (not version or version >= (5,)):
        return "OpenCV 5 computes some INT8 files wrongly"
    return ""
