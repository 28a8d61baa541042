"""Upgrades of settings in records of version 0.1.0."""

from __future__ import annotations

from typing import Any

_DATA = {"root": "data_root", "validation_fraction": "val_fraction", "seed": "split_seed"}
_DISTILL = {
    "taps": "student_taps",
    "precision": "train_precision",
    "schedule": "lr_schedule",
    "drops": "lr_drops",
}
# Values of settings that the first records do not name.
_FIRST = {"depth": 0.0, "refining": 0}


def upgrade_data(content: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a data set under the current names."""
    return _renamed(content, _DATA)


def upgrade_distill(content: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a distillation under the current names, flat instead of nested."""
    parts = [part for name in ("weights", "train", "design") if isinstance(part := content.get(name), dict)]
    if len(parts) < 3:
        return content
    own = {name: value for name, value in content.items() if name not in ("weights", "train", "design")}
    flat: dict[str, Any] = dict(_FIRST)
    for part in (*parts, own):
        flat |= part
    return _renamed(flat, _DISTILL)


def _renamed(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in content.items()}
