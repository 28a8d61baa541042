"""Classifiers: built by name, their blocks found generically, their weights loaded safely."""

from imf_deploy.models.blocks import Block, find_blocks, truncate
from imf_deploy.models.registry import ModelSpec, build_model
from imf_deploy.models.weights import load_weights, read_weights, save_weights

__all__ = [
    "Block",
    "ModelSpec",
    "build_model",
    "find_blocks",
    "load_weights",
    "read_weights",
    "save_weights",
    "truncate",
]
