"""Describe a safetensors file from its header; no tensor is loaded."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.record import beside, file_facts
from imf_deploy.records.files import Artifact, ProductFile
from imf_deploy.untrusted import parse_object

# The key that imf_deploy.training.checkpoint writes; importing that would import torch.
_CHECKPOINT = "imf-deploy-checkpoint"
_KINDS = {
    "teacher": "the weights of a teacher",
    "distilled": "a distilled student with its branches",
    "product": "a stripped student",
}


def inspect_weights(path: Path) -> Finding:
    """Read the header of a safetensors file and its sidecar.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is not a valid safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    existing_file(path, "the weights")
    tensors: list[dict[str, Any]] = []
    try:
        # The library checks that the header fits the file; with numpy, because torch takes seconds to import.
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118 (it is not a mapping)
                part = file.get_slice(name)
                tensors.append({"name": name, "dtype": part.get_dtype(), "shape": part.get_shape()})
    except (SafetensorError, OSError, ValueError) as error:
        raise ImfDeployError(
            f"{path} is not a valid safetensors file ({error})", "Download or create it again"
        ) from error
    values: Counter[str] = Counter()
    for tensor in tensors:
        values[tensor["dtype"]] += math.prod(tensor["shape"])
    facts = file_facts(path) | {
        "values": values.total(),
        "values_by_type": dict(values.most_common()),
        "metadata": metadata,
        "tensors": tensors,
    }
    if _CHECKPOINT in metadata:
        facts["metadata"] = {name: text for name, text in metadata.items() if name != _CHECKPOINT}
        facts["training"] = _training(metadata[_CHECKPOINT])
        return Finding(path, "safetensors", "a checkpoint of an unfinished training, as safetensors", facts)
    sidecar = beside(path, facts["sha256"])
    return Finding(
        path, "safetensors", _title(sidecar.record), facts, sidecar.to_json(path), [*sidecar.problems]
    )


def _training(text: str) -> dict[str, Any]:
    """Return the progress of a training from its checkpoint; invalid values are left out."""
    try:
        content = parse_object(text, _CHECKPOINT)
    except ImfDeployError:
        return {}
    wanted = {"epoch": "finished_epochs", "batch": "batches_of_the_next", "settings": "settings"}
    return {words: content[key] for key, words in wanted.items() if key in content}


def _title(record: Artifact | None) -> str:
    if record is None:
        return "weights as safetensors, without a record"
    product = f", product {record.product}" if isinstance(record, ProductFile) else ""
    return f"{_KINDS.get(record.kind, 'weights')}: {record.model.get('name', 'a model')}{product}"
