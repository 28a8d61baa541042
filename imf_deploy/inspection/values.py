"""JSON values of a finding as lines of text."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.show.format import accuracy, difference, label, percent, plain, scaled
from imf_deploy.tasks.metric import TOP1

SHOWN = 12
"""Maximum number of items of a list; ``--json`` has them all."""
LINES = 30
"""Maximum number of lines of one value."""
LONGEST = 400
"""Maximum number of characters of one text; a terminal takes seconds to wrap a million."""
_HASH = re.compile("[0-9a-f]{64}")


def cut(content: str) -> str:
    """Return a text, truncated if it is longer than :data:`LONGEST` characters."""
    if len(content) <= LONGEST:
        return content
    return f"{content[:LONGEST]}… ({len(content):,} characters, --json has them all)"


def lines(name: str, value: Any) -> list[str]:
    """Return a value as the lines of its cell, at most :data:`LINES` of them."""
    whole = _lines(name, value)
    more = len(whole) - LINES
    return whole if more <= 0 else [*whole[:LINES], f"and {more:,} more (--json has them all)"]


def _lines(name: str, value: Any) -> list[str]:
    if name == "verify":
        return verified(value)
    if name in ("inputs", "outputs"):
        return _signatures(value)
    if name == "operators":
        return [
            some(
                f"{cut(str(operator))} {count}"
                for operator, count in sorted(value.items(), key=lambda item: (-item[1], item[0]))
            )
        ]
    if name == "preprocess":
        rest = {key: item for key, item in value.items() if key != "labels"}
        return [f"labels {text('labels', value['labels'])}", text(name, rest)]
    if name in ("metadata", "stages", "prefix", "strip", "calibration", "training") and isinstance(
        value, Mapping
    ):
        return [f"{cut(str(key))}: {text(str(key), item)}" for key, item in value.items()]
    return [text(name, value)]


def _signatures(value: Any) -> list[str]:
    """Return inputs or outputs, as in an ONNX file or a record, one per line."""
    if isinstance(value, list):
        return [f"{cut(item['name'])}: {item['type']} {shape(item['shape'])}" for item in value]
    return [f"{cut(key)}: {shape(item)}" for key, item in value.items()]


def text(name: str, value: Any) -> str:
    """Return any JSON value as one line; long lists are truncated, numbers have sensible digits.

    Args:
        name: Name of the value: bytes and hashes are formatted specially.
        value: Anything from a JSON file.
    """
    if value in ([], {}):
        return "none"
    if isinstance(value, Mapping):
        if {"title", "value", "reference"} <= value.keys():  # a metric
            value = {text("", value["value"]): f"(float {text('', value['reference'])})"}
        return cut(some(f"{cut(str(key))} {text(str(key), item)}" for key, item in value.items()))
    if isinstance(value, list):
        if name == "gate":
            value = [f"{text('', metric)}={text('', amount)}" for metric, amount in value]
        count = f"{len(value)}: " if name == "labels" else ""
        return cut(count + some(text(name, item) for item in value))
    if isinstance(value, bool) or value is None:
        return plain(value)
    # A number beyond every measurement is shown unchanged, because it does not fit a float.
    if isinstance(value, int | float) and abs(value) < LARGEST_NUMBER:
        return _number(name, value)
    whole = str(value)
    return f"{whole[:16]}…" if name != "sha256" and _HASH.fullmatch(whole) else cut(whole)


def _number(name: str, value: float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if name.endswith("bytes"):
        return f"{scaled(value, 'B')} ({value:,})"
    return f"{value:,}" if value >= 10_000 else str(value)


def some(items: Iterable[str]) -> str:
    """Return items as a list that is truncated after a few."""
    iterator = iter(items)
    shown = list(islice(iterator, SHOWN))
    rest = sum(1 for _ in iterator)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def shape(sizes: list[int | str] | None) -> str:
    """Return a shape in brackets, or an empty text without a shape."""
    return "" if sizes is None else cut(f"[{', '.join(map(str, sizes))}]")


def verified(measured: Mapping[str, Any]) -> list[str]:
    """Return the measurements of ``imf-deploy verify`` in one line, and each rung of the parity ladder."""
    head, reason = label(measured["status"]), measured.get("reason")
    if measured.get("accuracy") is not None:
        head = f"{head}, {accuracy(measured['accuracy'], measured.get('accuracy_interval'))}"
        head += f" of {measured.get('images')} images"
        head += f", same class as PyTorch {percent(measured.get('agreement'), 2)}"
        head += f", largest difference of a logit {difference(measured.get('max_abs_diff'))}"
    metrics = [
        f"{metric['title']} {text('', metric['value'])} (PyTorch {text('', metric['reference'])})"
        for name, metric in measured.get("metrics", {}).items()
        if name != TOP1.name
    ]
    rungs = (
        f"{rung['name']} against {rung['against']}: {label(rung['status'])}" for rung in measured["ladder"]
    )
    first = f"{head}: {cut(reason)}" if reason else head
    return [first, *([some(map(cut, metrics))] if metrics else []), *map(cut, rungs)]
