"""Parsing of input from outside: JSON with limits, and text that may reach a terminal.

Only the standard library is imported.
"""

import json
import math
import re
from typing import Any

from imf_deploy.errors import ImfDeployError

JSON_BYTES = 32 << 20
"""Maximum size of a parsed JSON document; the largest report of a run with 1,000 classes has 2 MB."""
JSON_VALUES = 4_000_000
"""Maximum number of values in a JSON document; a small one takes 60 bytes of memory."""
JSON_DEPTH = 100
"""Maximum nesting of a JSON document; records and reports have less than 10 levels."""


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def parse_json(content: str | bytes, name: str, hint: str = "") -> Any:
    """Parse JSON from outside; numbers that are not finite become null, as when imf-deploy writes JSON.

    Args:
        content: The document.
        name: Its name in messages, such as ``run/report.json`` or ``the metadata 'labels' of a.onnx``.
        hint: What to do if it cannot be used.

    Raises:
        ImfDeployError: the document is not JSON, is larger than :data:`JSON_BYTES` or :data:`JSON_VALUES`, is
            nested deeper than :data:`JSON_DEPTH`, or contains an integer of thousands of digits or text that
            is not Unicode.
    """
    if len(content) > JSON_BYTES:
        raise ImfDeployError(f"{name} is larger than {JSON_BYTES >> 20} MiB", hint)
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    # Commas and brackets inside texts are also counted; an upper bound is sufficient.
    if sum(map(text.count, ",[{")) > JSON_VALUES:
        raise ImfDeployError(f"{name} holds more than {JSON_VALUES:,} values", hint)
    try:
        value = json.loads(content, parse_float=_finite, parse_constant=lambda _: None)
        if _SURROGATE.search(text):  # a lone surrogate can be read, but never written
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ImfDeployError(f"{name} is nested too deeply", hint) from error
    except UnicodeEncodeError as error:
        raise ImfDeployError(f"{name} holds text that is not Unicode", hint) from error
    except ValueError as error:
        raise ImfDeployError(f"{name} is not valid JSON ({shorten(str(error))})", hint) from error
    if too_deep(value):
        raise ImfDeployError(f"{name} is nested too deeply", hint)
    return value


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def parse_object(content: str | bytes, name: str, hint: str = "") -> dict[str, Any]:
    """Parse a JSON object from outside; see :func:`parse_json`.

    Raises:
        ImfDeployError: as there, or the document is not an object.
    """
    value = parse_json(content, name, hint)
    if not isinstance(value, dict):
        raise ImfDeployError(f"{name} is not a JSON object", hint)
    return value


def too_deep(content: Any, limit: int = JSON_DEPTH) -> bool:
    """Return whether a JSON value is nested so deeply that traversing it could exhaust the stack."""
    level = [content]
    for _ in range(limit):
        dicts = (item.values() for item in level if isinstance(item, dict))
        level = [child for inner in (*dicts, *(i for i in level if isinstance(i, list))) for child in inner]
        if not level:
            return False
    return True


def shorten(text: str, limit: int = 200) -> str:
    """Return the first line of a text from outside, with at most ``limit`` characters."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= limit else f"{first[: limit - 1]}…"


def printable(text: str) -> str:
    r"""Return a name with the bytes that are not UTF-8, which Python keeps as surrogates, as ``\xe9``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
