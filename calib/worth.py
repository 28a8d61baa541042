"""Decide whether an INT8 file is worth its rounding: it has to be faster than every float file here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from imf_deploy.benchmark.conditions import isa_flags
from imf_deploy.benchmark.latency import Latency, Ratio, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.compat import cpu_model, usable_cpus, versions
from imf_deploy.errors import GateError, ImfDeployError
from imf_deploy.files import fingerprint, read_json, sha256_file, write_json
from imf_deploy.forms import read_typed
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.making import Speed
from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnx_data import take_as_checked
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner

LEAST_GAIN = 0.03
"""Part of the latency that INT8 has to save; smaller differences between two loads of a file are noise."""

_INT8 = "int8"
_LOADS = 6
_ROUNDS = 12
_SECONDS = 0.25
_WARMUP_S = 0.03
# A ratio whose interval does not settle the question is measured again, for longer.
_LONGER = 6


def decide(name: str, speed: Speed) -> None:
    """Decline an INT8 file that is not faster than the fastest float file.

    Args:
        name: Name of the file in the message.
        speed: Its measured speed.

    Raises:
        GateError: less than :data:`LEAST_GAIN` of the latency is saved, or the interval includes 1.
    """
    if speed.ratio <= 1 - LEAST_GAIN and speed.high < 1:
        return
    raise GateError(
        f"INT8 is declined for {name}: on this machine ({speed.machine()}) it takes {speed.ratio:.2f} times "
        f"as long as {speed.other} (95 % interval {speed.low:.2f} to {speed.high:.2f}), and a gain of at "
        f"least {LEAST_GAIN:.0%} is required",
        "Deploy the float file, or use `keep_int8` to keep the INT8 file nevertheless",
    )


def cpu_speed(int8: Path, floats: Sequence[Path], preprocess: Preprocess, cache: Path | None) -> Speed:
    """Return the latency of an INT8 file relative to the fastest float file in ONNX Runtime on this CPU.

    Both are measured at batch 1 on as many threads as this process may use, in alternating rounds.

    Args:
        int8: The INT8 file.
        floats: Float files of the same network.
        preprocess: Its input.
        cache: Folder that stores the result for the same files, processor and ONNX Runtime; ``None`` stores
            nothing.
    """
    threads, isa = usable_cpus(), isa_flags()
    facts = [cpu_model(), isa, threads, versions(), *map(sha256_file, (int8, *floats))]

    def run() -> Speed:
        runners: dict[str, Runner] = {path.name: OnnxRuntimeRunner(path, threads) for path in floats}
        runners[_INT8] = OnnxRuntimeRunner(int8, threads)
        return _measured(runners, preprocess, Speed(cpu_model(), isa, threads, "", 1, 1, 1))

    return _cached(cache / f"speed-{fingerprint(facts)[:16]}.json" if cache else None, run)


def compare_speeds(whole: Path, others: Sequence[Path], preprocess: Preprocess) -> list[Ratio]:
    """Return the latency of files of this process relative to another one, in ONNX Runtime on this CPU."""
    runners: dict[str, Runner] = {}
    for path in (whole, *others):
        take_as_checked(path)
        runners[path.name] = OnnxRuntimeRunner(path, usable_cpus())
    timed = _timed(runners, preprocess, 1)
    return [ratio(timed[path.name], timed[whole.name]) for path in others]


def engine_speed(int8: Path, floats: Sequence[Path], preprocess: Preprocess, gpu: str) -> Speed:
    """Return the latency of an INT8 engine relative to the fastest float engine on this machine's GPU.

    Args:
        int8: The INT8 engine.
        floats: Float engines of the same network, at least one.
        preprocess: Its input.
        gpu: Name of the GPU.
    """
    runners: dict[str, Runner] = {path.name: TensorRTRunner(path) for path in floats}
    runners[_INT8] = TensorRTRunner(int8)
    return _measured(runners, preprocess, Speed(gpu, [], 1, "", 1, 1, 1))


def _measured(runners: dict[str, Runner], preprocess: Preprocess, speed: Speed) -> Speed:
    """Return the speed of the runner ``int8`` relative to the fastest of the others."""
    for longer in (1, _LONGER):
        timed = _timed(runners, preprocess, longer)
        other = min((name for name in runners if name != _INT8), key=lambda name: timed[name].p50)
        seen = ratio(timed[_INT8], timed[other])
        speed = replace(speed, other=other, ratio=seen.value, low=seen.low, high=seen.high)
        if not speed.low <= 1 - LEAST_GAIN <= speed.high:
            break
    return speed


def _timed(runners: dict[str, Runner], preprocess: Preprocess, longer: int) -> dict[str, Latency]:
    """Return latencies at batch 1."""
    image = np.random.default_rng(0).standard_normal((1, *preprocess.shape), dtype=np.float32)
    return measure(
        runners,
        image,
        duration_s=longer * _SECONDS,
        warmup_s=_WARMUP_S,
        rounds=longer * _ROUNDS,
        loads=_LOADS,
    )


def _cached(path: Path | None, run: Callable[[], Speed]) -> Speed:
    """Return the speed that is stored at ``path``, or measure and store it, so that it is decided once."""
    if path is None:
        return run()
    if path.is_file():
        try:
            return read_typed(Speed, read_json(path))
        except ValueError as error:
            raise ImfDeployError(f"the measured speed {path} is damaged", "Delete it") from error
    speed = run()
    write_json(path, asdict(speed))
    return speed
