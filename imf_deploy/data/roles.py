"""The names by which splits are recognised, for folders and for shards."""

import re
from typing import Literal

Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = ("train", "validation", "test")

_NAMES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    # If "eval" is next to "val" or "dev", it is unclear which of them is for choosing: both are validation.
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating"), "validation"),
    **dict.fromkeys(("dev", "devel", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
_FILLER = "(?:datasets?|data|sets?|splits?|images?|imgs?|pictures?|photos?|samples?|folder|dir)*"
_WHOLE = re.compile(f"{_FILLER}({'|'.join(_NAMES)}){_FILLER}")


def role_of(name: str) -> Role | None:
    """Return the split that a whole name stands for.

    Capitals, digits, separators, and words such as ``set`` or ``images`` are ignored: ``Training``,
    ``test_set``, ``val2017`` and ``images-dev`` are splits, ``seg_train`` and ``latest`` are not.
    """
    match = _WHOLE.fullmatch(re.sub(r"[\W\d_]+", "", name.lower()))
    return _NAMES[match[1]] if match else None


def word_in(name: str) -> str | None:
    """Return the first word of a name that stands for a split, in lower case, such as ``train``."""
    return next((word for word in re.findall(r"[^\W\d_]+", name.lower()) if role_of(word)), None)
