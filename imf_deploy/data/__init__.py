"""Data sets: the embedded one, folders of images, and torchvision's data sets by name.

Names are imported on first use, so that modules that do not need PyTorch do not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imf_deploy.data.augment import Augment
    from imf_deploy.data.batches import eval_batches, train_batches
    from imf_deploy.data.dataset import DataSet, Split
    from imf_deploy.data.open import open_data, reopen_data, settings_for
    from imf_deploy.settings import DataSettings

__all__ = [
    "Augment",
    "DataSet",
    "DataSettings",
    "Split",
    "eval_batches",
    "open_data",
    "reopen_data",
    "settings_for",
    "train_batches",
]

_MODULES = {
    "Augment": "data.augment",
    "DataSet": "data.dataset",
    "DataSettings": "settings",
    "Split": "data.dataset",
    "eval_batches": "data.batches",
    "open_data": "data.open",
    "reopen_data": "data.open",
    "settings_for": "data.open",
    "train_batches": "data.batches",
}
"""Where each name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"imf_deploy.{_MODULES[name]}"), name)
    return value
