"""Weights on disk: safetensors, or a ``.pt`` that may hold tensors and nothing else."""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file, write_bytes

# Smaller tensors may be equal by chance (a counter, a bias of zeros).
_SMALLEST_TELLING = 16


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically; shared or strided tensors are copied."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # The library's own file writer hides a full disk behind an error of its own.
    write_bytes(path, save(whole, dict(metadata) if metadata else None))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from ``.safetensors``, or from ``.pt``/``.pth`` with ``weights_only=True``.

    A checkpoint that keeps its tensors under ``state_dict`` or ``model`` is unpacked.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is damaged, or holds more than tensors.
    """
    existing_file(path, "weights")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise ImfDeployError(
                f"{path} is not a whole safetensors file ({error})", "Fetch or make it again"
            ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # advice for who made the file
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle, and runtime errors: whatever a broken file provokes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImfDeployError(
            f"{path} was refused: it is damaged or holds more than tensors ({reason})",
            "Save the model's state_dict alone, best as safetensors",
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ImfDeployError(
            f"{path} holds no state_dict", "Save the model's state_dict, best as safetensors"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors into a model, every one of them.

    Args:
        model: Changed in place.
        tensors: Its whole ``state_dict``.
        source: Where they come from, for the message.

    Raises:
        ImfDeployError: keys or shapes differ; the message lists the first of them.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors]
    surplus = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} {list(tensors[name].shape)} for {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for title, names in (("missing", missing), ("unknown", surplus), ("other shapes", shapes))
        if names
    ]
    if problems:
        raise ImfDeployError(
            f"{source} belongs to another model than {type(model).__name__} ({'; '.join(problems)})",
            "Name the architecture that the weights were made with, and as many classes",
        )
    state = OrderedDict(tensors)
    # Which form a module's tensors have (torchvision's MNASNet asks); files of tensors do not say.
    state._metadata = getattr(expected, "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=True)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold an infinite number or none (NaN), statistics included."""
    return [n for n, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]


def tensor_hashes(tensors: Iterable[Tensor]) -> list[str]:
    """Return a hash of the content of every tensor that is large and varied enough to tell."""
    hashes = []
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        if values.is_floating_point() and values.numel() >= _SMALLEST_TELLING and values.min() < values.max():
            hashes.append(hashlib.sha256(values.numpy().tobytes()).hexdigest())
    return hashes
