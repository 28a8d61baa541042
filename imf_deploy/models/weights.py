"""Weights written by this project: safetensors, loaded completely or not at all."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file, write_bytes
from imf_deploy.untrusted import shorten

COUNTER = ".num_batches_tracked"
"""The counter of batch norm in training; the answers of a network do not depend on it."""

# Smaller tensors may be equal by chance (a counter, a bias of zeros).
_SMALLEST_TELLING = 16


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically; shared or strided tensors are copied."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # The library's own file writer hides a full disk behind its own error type.
    write_bytes(path, save(whole, dict(metadata) if metadata else None))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    existing_file(path, "weights")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ImfDeployError(
            f"{path} is not a valid safetensors file ({shorten(str(error))})", "Download or create it again"
        ) from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load all tensors of a model.

    Numbers may have another width than the model's, such as fp16 or bf16 for fp32, but not another type.

    Args:
        model: The model, changed in place.
        tensors: Its whole ``state_dict``.
        source: Origin of the tensors, for the message.

    Raises:
        ImfDeployError: keys, shapes or types of numbers differ, and the message lists the first of them; or a
            number is not finite.
    """
    expected = model.state_dict()
    if problems := mismatches(tensors, expected):
        raise ImfDeployError(
            f"{source} does not belong to {type(model).__name__} ({'; '.join(problems)})",
            "Name the architecture and the number of classes that the weights were trained with",
        )
    kinds = [
        f"{name} {_type(tensors[name])} for {_type(own)}"
        for name, own in expected.items()
        if _kind(tensors[name]) != _kind(own) and not name.endswith(COUNTER)
    ]
    if kinds:
        raise ImfDeployError(
            f"{source} holds numbers of another type than {type(model).__name__} ({_first(kinds)})",
            "Save the state_dict of the network as it was trained, in floating point",
        )
    state = OrderedDict(tensors)
    # Files of tensors do not contain the version of a module's tensors, which torchvision's MNASNet needs.
    state._metadata = getattr(expected, "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=True)
    # Checked in the model: a large float64 is finite in the file, but not in fp32.
    if names := not_finite(model.state_dict()):
        raise ImfDeployError(
            f"{source} holds numbers that are not finite ({_first(names)})",
            "Use weights from before the training diverged",
        )


def mismatches(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the differences of names and shapes from the expected ones, in words."""
    shapes = [
        f"{name} {list(tensors[name].shape)} for {list(own.shape)}"
        for name, own in expected.items()
        if name in tensors and tensors[name].shape != own.shape
    ]
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    kinds = (("missing", missing), ("unknown", unknown), ("other shapes", shapes))
    return [f"{title}: {_first(names)}" for title, names in kinds if names]


def _first(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "float"
    return "bool" if tensor.dtype == torch.bool else "int"


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that contain an infinite number or NaN, including statistics."""
    return [n for n, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]


def tensor_hashes(tensors: Iterable[Tensor]) -> list[str]:
    """Return a hash of every tensor that is large and varied enough to be recognised."""
    hashes = []
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        if values.is_floating_point() and values.numel() >= _SMALLEST_TELLING and values.min() < values.max():
            hashes.append(hashlib.sha256(values.numpy().tobytes()).hexdigest())
    return hashes
