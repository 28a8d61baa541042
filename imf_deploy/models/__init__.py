"""Classifiers: built by name, their blocks found generically, their weights loaded safely."""

from imf_deploy.models.behaviour import check_behaviour
from imf_deploy.models.blocks import device_of, earlier_blocks, find_blocks, only_logits, to_map
from imf_deploy.models.channels import sum_channels
from imf_deploy.models.checkpoints import load_checkpoint
from imf_deploy.models.cut import truncate
from imf_deploy.models.names import file_stem, resolve
from imf_deploy.models.prefixes import Cost, prefix_costs
from imf_deploy.models.pretrained import Pretrained, preparation_of, prepared_for, read_pretrained
from imf_deploy.models.registry import (
    SMALL_IMAGE,
    ModelSpec,
    build_deployable,
    build_model,
    check_student,
    recipe_of,
    student_blocks,
)
from imf_deploy.models.weights import load_weights, not_finite, read_weights, save_weights, tensor_hashes
from imf_deploy.records.making import Block

__all__ = [
    "SMALL_IMAGE",
    "Block",
    "Cost",
    "ModelSpec",
    "Pretrained",
    "build_deployable",
    "build_model",
    "check_behaviour",
    "check_student",
    "device_of",
    "earlier_blocks",
    "file_stem",
    "find_blocks",
    "load_checkpoint",
    "load_weights",
    "not_finite",
    "only_logits",
    "prefix_costs",
    "preparation_of",
    "prepared_for",
    "read_pretrained",
    "read_weights",
    "recipe_of",
    "resolve",
    "save_weights",
    "student_blocks",
    "sum_channels",
    "tensor_hashes",
    "to_map",
    "truncate",
]
