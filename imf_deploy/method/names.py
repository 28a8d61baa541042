"""Names of products: ``plain`` and ``imf@k``. Only the standard library is imported."""

import re

PLAIN = "plain"
_IMF = re.compile("imf@([1-9][0-9]{0,3})")


def imf(k: int) -> str:
    """Return the name of the product that keeps ``k`` blocks."""
    return f"imf@{k}"


def find_blocks_kept(product: str) -> int | None:
    """Return ``k`` of ``imf@k``, 0 for ``plain``, and ``None`` for a name that no product has."""
    match = _IMF.fullmatch(product)
    return int(match[1]) if match else 0 if product == PLAIN else None


def blocks_kept(product: str) -> int:
    """Return ``k`` of ``imf@k``, and 0 for ``plain``.

    Raises:
        ValueError: no product has this name. Records may be untrusted, and names are used for files.
    """
    kept = find_blocks_kept(product)
    if kept is None:
        raise ValueError(f"'{product[:40]}' is not a product")
    return kept
