"""JSON values of a finding as lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.show.format import accuracy, difference, known, label, percent, plain, scaled

SHOWN = 12
"""Items of a long list; ``--json`` has them all."""
LINES = 30
"""Lines of one value."""
LONGEST = 400
"""Characters of one text; a terminal takes seconds to wrap a million."""
_HASH = re.compile("[0-9a-f]{64}")


def cut(content: str) -> str:
    """Return a text, with its end left out where it is longer than :data:`LONGEST` characters."""
    if len(content) <= LONGEST:
        return content
    return f"{content[:LONGEST]}… ({len(content):,} characters, --json has them all)"


def lines(name: str, value: Any) -> list[str]:
    """Return a value as the lines of its cell, at most :data:`LINES` of them."""
    whole = _lines(name, value)
    more = len(whole) - LINES
    return whole if more <= 0 else [*whole[:LINES], f"and {more:,} more (--json has them all)"]


def _lines(name: str, value: Any) -> list[str]:
    if name == "verify" and isinstance(value, Mapping):
        return [verified(value), *_ladder(value.get("ladder"))]
    if name in ("inputs", "outputs"):
        return _signatures(value)
    if name == "operators" and isinstance(value, Mapping):
        return [
            some(f"{cut(str(operator))} {count}" for operator, count in sorted(value.items(), key=_by_count))
        ]
    if name == "preprocess" and isinstance(value, Mapping):
        rest = {key: item for key, item in value.items() if key != "labels"}
        return [f"labels {text('labels', value.get('labels'))}", text(name, rest)]
    if name in ("metadata", "stages", "prefix", "strip", "calibration", "training") and isinstance(
        value, Mapping
    ):
        return [f"{cut(str(key))}: {text(str(key), item)}" for key, item in value.items()]
    return [text(name, value)]


def _signatures(value: Any) -> list[str]:
    """Return inputs or outputs, as an ONNX file gives them or as a record does, one on a line."""
    if isinstance(value, list):
        return [f"{cut(item['name'])}: {item['type']} {shape(item['shape'])}" for item in value]
    if isinstance(value, Mapping):
        return [
            f"{cut(str(key))}: {shape(item) if isinstance(item, list) else text('', item)}"
            for key, item in value.items()
        ]
    return [text("", value)]


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def text(name: str, value: Any) -> str:
    """Return any JSON value as one line; long lists are cut, numbers have sensible digits.

    Args:
        name: What the value is called: bytes and hashes are shown in their own way.
        value: Anything from a JSON file.
    """
    if value in ([], {}):
        return "none"
    if isinstance(value, Mapping):
        return cut(some(f"{cut(str(key))} {text(str(key), item)}" for key, item in value.items()))
    if isinstance(value, list):
        count = f"{len(value)}: " if name == "labels" else ""
        return cut(count + some(text(name, item) for item in value))
    if isinstance(value, bool) or value is None:
        return plain(value)
    # A number beyond every measurement is shown as it stands: it does not fit a float.
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
    """Return items as a list that ends after so many."""
    iterator = iter(items)
    shown = list(islice(iterator, SHOWN))
    rest = sum(1 for _ in iterator)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def shape(sizes: list[int | str] | None) -> str:
    """Return a shape in brackets; nothing for what has none."""
    return "" if sizes is None else cut(f"[{', '.join(map(str, sizes))}]")


def _ladder(rungs: Any) -> list[str]:
    """Return each rung of the parity ladder in a line."""
    rungs = rungs if isinstance(rungs, list) else []
    parts = [rung for rung in rungs if isinstance(rung, Mapping)]
    return [
        f"{text('', rung.get('name'))} against {text('', rung.get('against'))}: "
        f"{label(text('', rung.get('status')))}"
        for rung in parts
    ]


def verified(evidence: Mapping[str, Any]) -> str:
    """Return what ``imf-deploy verify`` measured, in one line; numbers of a foreign record may be missing."""

    def number(key: str) -> float | None:
        value = evidence.get(key)
        return (
            value if isinstance(value, int | float) and abs(value) < LARGEST_NUMBER and known(value) else None
        )

    status, reason = evidence.get("status"), evidence.get("reason")
    if number("accuracy") is None:
        return f"{label(text('', status))}: {text('', reason)}"
    ends = evidence.get("accuracy_interval")
    pair = (
        isinstance(ends, list)
        and len(ends) == 2
        and all(isinstance(end, int | float) and abs(end) < LARGEST_NUMBER for end in ends)
    )
    told = f"{text('', status)}, {accuracy(number('accuracy'), ends if pair else None)}"
    told += f" of {text('', evidence.get('images'))} images"
    told += f", same class as PyTorch {percent(number('agreement'), 2)}"
    told += f", largest difference of a logit {difference(number('max_abs_diff'))}"
    return f"{told}: {text('', reason)}" if reason else told
