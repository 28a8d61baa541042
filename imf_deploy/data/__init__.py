"""Data sets: the embedded one, folders of images, and torchvision's data sets by name."""

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
