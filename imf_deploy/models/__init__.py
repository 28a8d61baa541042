"""Classifiers: built by name, their blocks found generically, their weights loaded safely."""

from imf_deploy.models.blocks import Block, find_blocks, truncate
from imf_deploy.models.registry import SMALL_IMAGE, ModelSpec, build_model
from imf_deploy.models.weights import load_weights, read_weights, save_weights, tensor_hashes

__all__ = [
    "SMALL_IMAGE",
    "Block",
    "ModelSpec",
    "build_model",
    "find_blocks",
    "load_weights",
    "read_weights",
    "save_weights",
    "tensor_hashes",
    "truncate",
]
