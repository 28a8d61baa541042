"""Image classifiers of Hugging Face's transformers, by ``hf:PATH`` or ``hf:OWNER/NAME``, as teachers."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imf_deploy.errors import ImfDeployError, UsageError, first_line
from imf_deploy.files import sha256_file
from imf_deploy.image_size import Shape, short_size
from imf_deploy.limits import LONGEST
from imf_deploy.untrusted import shorten

CONFIG = "config.json"
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?", re.ASCII)


def check_name(name: str) -> str:
    """Return the part of a name after ``hf:`` if it is a folder or has the form of a repository's name.

    Raises:
        UsageError: it is neither, or transformers is not installed.
    """
    local = len(name) <= LONGEST and name.isprintable() and Path(name).is_dir()
    if not name or not (local or _REPOSITORY.fullmatch(name)):
        raise UsageError(
            f"unknown model 'hf:{shorten(name, 80)}': it is neither a folder nor a repository's name",
            "Use hf:FOLDER, as save_pretrained writes it, or hf:OWNER/NAME",
        )
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(
            f"'hf:{name}' needs the package transformers, which is not installed",
            "Type: pip install 'imf-deploy[hf]'",
        )
    return name


def cached_folder(name: str) -> Path:
    """Return the folder of a network: a local one, or one in Hugging Face's cache (``HF_HOME``).

    Nothing is downloaded.

    Raises:
        UsageError: there is no such network.
    """
    if (folder := Path(name)).is_dir():
        if not (folder / CONFIG).is_file():
            raise UsageError(f"{name} has no {CONFIG}", "Give a folder that save_pretrained has written")
        return folder
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, CONFIG, revision=revision or None)
    if not isinstance(found, str):
        raise UsageError(
            f"hf:{name} is neither a folder nor in Hugging Face's cache",
            f"Type: hf download {repository}{f' --revision {revision}' if revision else ''}",
        )
    return Path(found).parent


def config_hash(name: str) -> str:
    """Return the SHA-256 of a network's configuration, which decides what its weights compute.

    Raises:
        UsageError: there is no such network.
    """
    return sha256_file(cached_folder(name) / CONFIG)


def build_huggingface(name: str, num_classes: int, shape: Shape) -> nn.Module:
    """Build a network with fresh weights: ``[N, C, H, W]`` -> logits ``[N, classes]``.

    Its tensors have the names of transformers. No code of the folder is run.

    Args:
        name: A folder or a repository; see :func:`cached_folder`.
        num_classes: Number of logits.
        shape: ``C``, ``H`` and ``W``.

    Raises:
        Exception: transformers cannot build it.
    """
    from transformers import AutoModelForImageClassification

    config = read_config(cached_folder(name))
    config.num_labels = num_classes
    channels, *size = shape
    if channels != 3:
        config.num_channels = channels
    if hasattr(config, "image_size"):  # a network that is built for one size
        config.image_size = short_size((size[0], size[1]))
    with quiet():
        network = AutoModelForImageClassification.from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
    return _only_logits(network)


def read_config(folder: Path) -> Any:
    """Read the configuration of a network.

    Raises:
        ImfDeployError: it is not one of transformers' own networks, or its weights are quantised.
    """
    from transformers import AutoConfig

    path = folder / CONFIG
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers reads any content without checks
        raise ImfDeployError(
            f"{path} does not describe a network of transformers ({shorten(first_line(error))})",
            "Use a network whose code is part of transformers: code of a repository is not run",
        ) from error
    if getattr(config, "quantization_config", None):
        raise ImfDeployError(f"the weights of {folder} are quantised", "Use a network in floating point")
    return config


def _only_logits(network: Any) -> nn.Module:
    if next(iter(inspect.signature(network.forward).parameters)) != "pixel_values":
        raise ValueError("it takes more than images")
    # A hook instead of a wrapper: modules and tensors keep their names.
    network.register_forward_hook(_logits)
    registers = getattr(network.config, "num_register_tokens", None)
    if isinstance(registers, int):
        network.num_prefix_tokens = 1 + registers  # the class token comes first
    whole: nn.Module = network
    return whole


def _logits(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return output.logits


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing bars and advice."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
