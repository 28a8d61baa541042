"""Put the weights of an ONNX file into an engine that was built with ``strip_weights``."""

from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.builder import Session, parser_problems

STRIPPED = "-stripped"


def stripped_path(path: Path) -> Path:
    """Return the path of the plan without weights, next to the engine that has them."""
    return path.with_name(f"{path.stem}{STRIPPED}{path.suffix}")


def refit_plan(session: Session, plan: bytes, onnx_path: Path, *, host_code: bool = False) -> bytes:
    """Return a plan with the weights of an ONNX file; tactics and shapes do not change.

    The caller must compare the result with the ONNX file: TensorRT folds some weights into constants while it
    builds, and does not always report that.

    Args:
        session: Session of the full TensorRT.
        plan: Plan without weights, or with other weights.
        onnx_path: A model of the same architecture and precision.
        host_code: Whether the plan may run its own code on this machine, as a plan that is compatible with
            other versions must. Allow it for plans that were just built, or are known.

    Raises:
        ImfDeployError: the weights of the plan cannot be replaced, or the model's do not fit.
    """
    trt, log = session.trt, session.log
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = host_code
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise session.failed(f"{trt.__name__} {trt.__version__} refuses the engine")
    if not engine.refittable:
        raise ImfDeployError("the weights of the engine cannot be replaced", "Build it with `strip_weights`")
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    from imf_deploy.export.engine_form import engine_source  # it imports onnx

    source = engine_source(onnx_path)
    if not (parser.refit_from_bytes(source) if source else parser.refit_from_file(str(onnx_path))):
        raise ImfDeployError(
            f"the weights of {onnx_path} do not fit the engine ({parser_problems(parser)})",
            "Use a model of the same architecture and precision",
        )
    if missing := list(refitter.get_missing_weights()):
        raise ImfDeployError(
            f"{onnx_path} lacks {len(missing)} weights of the engine, such as '{missing[0]}'",
            "Use a model of the same architecture and precision",
        )
    if not refitter.refit_cuda_engine():
        raise session.failed(f"{trt.__name__} could not put the weights of {onnx_path} into the engine")
    return _with_weights(trt, engine)


def lacks_weights(trt: Any, engine: Any, log: Any) -> bool:
    """Return whether an engine has no weights yet; it would run, and give meaningless answers."""
    return bool(engine.refittable) and bool(list(trt.Refitter(engine, log).get_missing_weights()))


def _with_weights(trt: Any, engine: Any) -> bytes:
    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)  # which a stripped plan sets
    return bytes(engine.serialize_with_config(config))
