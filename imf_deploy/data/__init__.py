"""Data sets: the embedded one, folders of images, and torchvision's data sets by name."""

from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import eval_batches, train_batches
from imf_deploy.data.dataset import DataSet, Split
from imf_deploy.data.open import is_named, open_data, reopen_data
from imf_deploy.settings import DataSettings

__all__ = [
    "Augment",
    "DataSet",
    "DataSettings",
    "Split",
    "eval_batches",
    "is_named",
    "open_data",
    "reopen_data",
    "train_batches",
]
