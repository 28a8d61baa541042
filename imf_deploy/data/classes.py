"""Rules for names of classes, which appear in records, reports and terminals."""

from unicodedata import category

from imf_deploy.errors import UsageError
from imf_deploy.untrusted import printable

LONGEST = 255
"""Maximum number of characters of a class name; file systems do not allow more."""
# These change the direction of the text after them. Joiners share the category, but some scripts need them.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def class_name(name: str, where: str) -> str:
    """Return the name of a class if it can be written and displayed everywhere.

    Args:
        name: The name.
        where: The place of the name, for the message.

    Raises:
        UsageError: the name is not UTF-8, is longer than :data:`LONGEST`, or holds control characters or
            marks that change the direction of text.
    """
    if any(category(char) == "Cs" for char in name):
        why = "is not UTF-8"
    elif any(category(char) in ("Cc", "Zl", "Zp") or char in _TURNING for char in name):
        why = "holds control characters"
    elif len(name) > LONGEST:
        name, why = f"{name[:40]}…", f"is longer than {LONGEST} characters"
    else:
        return name
    raise UsageError(f"the class name '{printable(name)}' {why} ({where})", "Rename the class")
