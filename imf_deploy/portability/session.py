"""Sessions of ONNX Runtime on the CPU that are not timed."""

from pathlib import Path
from typing import Any


def cpu_session(
    model: Path | bytes,
    level: str = "ORT_ENABLE_ALL",
    *,
    optimised: Path | None = None,
    threads: int = 0,
    disabled: list[str] | None = None,
) -> Any:
    """Return an ``InferenceSession`` on the CPU, whose threads do not spin and which logs nothing.

    Args:
        model: The ONNX file, or its content.
        level: Optimisations, a name in ``onnxruntime.GraphOptimizationLevel``.
        optimised: File that the optimised graph is saved to.
        threads: Number of threads; 0 leaves it to ONNX Runtime.
        disabled: Names of optimisers that are left out.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised anyway
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if optimised:
        options.optimized_model_filepath = str(optimised)
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(
        source, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
    )
