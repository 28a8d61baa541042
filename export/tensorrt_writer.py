"""Build a TensorRT engine from an ONNX file, in the same way for TensorRT 10, 11 and TensorRT-RTX.

Networks are strongly typed, which all of them support: the precision is that of the ONNX file.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.background import run_in_background
from imf_deploy.export.build_options import apply_options, changed_options, check_options
from imf_deploy.export.builder import Session, open_session
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import this_gpu
from imf_deploy.export.monitor import PERCENT, build_monitor
from imf_deploy.export.onnx_file import OnnxInfo, describe_onnx
from imf_deploy.export.refit import refit_plan, stripped_path
from imf_deploy.export.timing_cache import TimingCache, own_cache
from imf_deploy.files import write_bytes
from imf_deploy.progress import track
from imf_deploy.records.making import Built
from imf_deploy.settings import BatchRange, BuildSettings
from imf_deploy.settings.export import Flavour, parse_capability, profiles_of


@dataclass(frozen=True)
class EngineInfo:
    """A built engine.

    Attributes:
        path: The engine.
        header: The header of the written file.
        batch: Batch sizes that it accepts, one range for each optimisation profile.
        onnx: The ONNX file that it was built from. Names, shapes and precision are the same in the engine,
            which cannot be queried for them without a GPU.
        layers: Number of layers of the parsed network.
        built: What its record keeps of the build. Its duration is from the ONNX file to the plan; its GPU
            is that of the full TensorRT; TensorRT-RTX uses no timing cache.
    """

    path: Path
    header: EngineHeader
    batch: tuple[BatchRange, ...]
    onnx: OnnxInfo
    layers: int
    built: Built


def build_engine(
    onnx_path: Path,
    path: Path,
    flavour: Flavour,
    batch: BatchRange | Sequence[BatchRange],
    compute_capability: tuple[str, ...] = (),
    options: BuildSettings | None = None,
    timing_cache: Path | None = None,
) -> EngineInfo:
    """Build an engine from an ONNX file and write it atomically.

    An interrupt cancels the build at its next step; no file is written then.

    Args:
        onnx_path: Model whose first dimension is the batch.
        path: Output engine. If weights are stripped, the plan without them is written next to it, and the
            engine is that plan with the weights restored.
        flavour: The TensorRT to build with and for.
        batch: Batch sizes to accept: one range, or one for each optimisation profile.
        compute_capability: Targets of a TensorRT-RTX engine, such as ``86``; if empty, the engine runs on RTX
            GPUs, Ampere and newer.
        options: Options of the build; ``None`` uses TensorRT's own.
        timing_cache: File that stores timings; if ``None``, they are stored next to the engine.

    Raises:
        UsageError: the flavour is not installed, or a target, the batch range or an option does not fit.
        DeviceError: the full TensorRT is requested, but there is no CUDA device.
        ImfDeployError: TensorRT refuses the model, or the engine cannot be written.
        KeyboardInterrupt: raised when the build has ended.
    """
    targets = sorted({parse_capability(text) for text in compute_capability}, key=int)
    options = options or BuildSettings()
    check_options(options, flavour, targets)
    onnx, profiles = describe_onnx(onnx_path), profiles_of(batch)
    cancelled = threading.Event()
    with track(f"Building {path.name}", PERCENT) as advance:
        plan, stripped, layers, built = run_in_background(
            lambda: _build(
                onnx_path, path.parent, flavour, profiles, targets, options, timing_cache, advance, cancelled
            ),
            cancelled,
        )
    if stripped:
        write_bytes(stripped_path(path), stripped)
    write_bytes(path, plan)
    return EngineInfo(path, read_engine_header(path), profiles, onnx, layers, built)


def check_readable(onnx_path: Path, flavour: Flavour) -> None:
    """Let TensorRT parse an ONNX file, without building anything.

    Raises:
        UsageError: the flavour is not installed.
        ImfDeployError: TensorRT refuses the model; the message names the operator.
        KeyboardInterrupt: raised when TensorRT has returned.
    """
    run_in_background(lambda: open_session(flavour).parse(onnx_path))


def _build(
    onnx_path: Path,
    folder: Path,
    flavour: Flavour,
    profiles: tuple[BatchRange, ...],
    targets: list[str],
    options: BuildSettings,
    timing_cache: Path | None,
    advance: Callable[[int], None],
    cancelled: threading.Event,
) -> tuple[bytes, bytes, int, Built]:
    """Build the plan, and store its timings.

    Returns:
        The plan, the plan without weights where they are stripped, the number of layers, and the record.
    """
    start = time.perf_counter()
    session = open_session(flavour)
    trt = session.trt
    network = session.parse(onnx_path)
    config = session.builder.create_builder_config()
    apply_options(options, trt, config)
    _set_targets(trt, config, targets)
    _set_batch(session, config, network, profiles)
    gpu = cache = None
    if flavour == "tensorrt":  # TensorRT-RTX does not time kernels while it builds
        gpu = this_gpu()
        file = timing_cache or own_cache(folder, trt.__version__, gpu)
        cache = TimingCache(session, config, file, shared=timing_cache is not None)
    monitor = build_monitor(trt, advance, cancelled)
    config.progress_monitor = monitor
    serialized = session.builder.build_serialized_network(network, config)
    if monitor.error:
        raise monitor.error
    if serialized is None:
        raise session.failed(f"{trt.__name__} could not build {onnx_path}")
    plan, stripped = bytes(serialized), b""
    use = cache.save() if cache else None
    if options.strip_weights:
        stripped = plan
        plan = refit_plan(session, stripped, onnx_path, host_code=options.version_compatible)
    built = Built(round(time.perf_counter() - start, 3), changed_options(options), gpu, use)
    return plan, stripped, network.num_layers, built


def _set_targets(trt: Any, config: Any, targets: list[str]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):  # an empty slot silently fails the build
        capability = getattr(trt.ComputeCapability, f"SM{target}", None)
        if capability is None or not config.set_compute_capability(capability, index):
            raise UsageError(
                f"{trt.__name__} {trt.__version__} cannot build for compute capability {target}",
                "Leave it out, or type: pip install --upgrade tensorrt-rtx",
            )


def _set_batch(session: Session, config: Any, network: Any, profiles: tuple[BatchRange, ...]) -> None:
    images = network.get_input(0)
    dynamic, *rest = tuple(images.shape)
    if -1 in rest:
        raise ImfDeployError(
            f"the input '{images.name}' has dynamic dimensions besides the batch",
            "Export it again with a fixed image size",
        )
    if dynamic != -1:
        if any((batch.min, batch.max) != (dynamic, dynamic) for batch in profiles):
            raise UsageError(f"the ONNX file was made for a batch of {dynamic}", f"Use `batch` {dynamic}")
        return
    for batch in profiles:
        profile = session.builder.create_optimization_profile()
        profile.set_shape(images.name, *((size, *rest) for size in (batch.min, batch.opt, batch.max)))
        # Neither call raises if TensorRT rejects the range.
        if not profile or config.add_optimization_profile(profile) < 0:
            raise session.failed(f"TensorRT refuses the batch range {batch}")
