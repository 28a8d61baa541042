"""What the output of an ONNX graph is: logits, probabilities of one class, or of several at once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.export.onnx_file import read_model

# They pass on what they are given, up to its type or its shape.
_THROUGH = frozenset(
    {"Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze"}
)


def softmax_at(path: Path, output: str) -> bool:
    """Return whether an output is behind a softmax; rounding to INT8 may hide it from the values."""
    return _operator(path, path.stat().st_mtime_ns, output) == "Softmax"


def refuse_sigmoid(path: Path, output: str) -> None:
    """Refuse an output behind a sigmoid: each class is answered for itself.

    Raises:
        UsageError: it is.
    """
    if _operator(path, path.stat().st_mtime_ns, output) == "Sigmoid":
        raise UsageError(
            f"the output '{output}' of {path} is behind a sigmoid: each class has a probability of its own",
            "Use a network with one class for each image, or `logits` with the output before the sigmoid",
        )


@lru_cache(maxsize=8)
def _operator(path: Path, _changed: int, output: str) -> str:
    """Return the operator that makes an output, behind those that only pass values on."""
    makers = {name: node for node in read_model(path).graph.node for name in node.output}
    seen = set()
    while (node := makers.get(output)) is not None and output not in seen:
        if node.op_type not in _THROUGH or not node.input:
            return str(node.op_type)
        seen.add(output)
        output = node.input[0]
    return ""
