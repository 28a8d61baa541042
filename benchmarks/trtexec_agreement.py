"""Time an engine as trtexec does, with only TensorRT and CUDA events, next to imf-deploy's own figures.

    python benchmarks/trtexec_agreement.py student.engine --batch 64

trtexec's definitions (TensorRT developer guide, "Performance Benchmarking"): GPU compute time is between two
events around the enqueue, latency is the sum of host-to-device copy, GPU compute and device-to-host copy; 200
ms of warm-up, then at least 3 s and 10 inferences. Both take turns. The goal is a ratio within 3 %.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.flavour import LIBRARIES
from imf_deploy.runners.tensorrt import TensorRTRunner

WARMUP_S, DURATION_S, ROUNDS, LEAST = 0.2, 3.0, 10, 10
Times = tuple[float, float]
"""Milliseconds of GPU compute and of latency."""


def plain_tensorrt(path: Path, batch: int, *, cuda_graph: bool) -> Callable[[], Times]:
    """Return a function that runs an engine once, written only for this script."""
    header = read_engine_header(path)
    trt = importlib.import_module(LIBRARIES[header.flavour].module)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(path.read_bytes()[header.offset :])
    context, stream = engine.create_execution_context(), torch.cuda.Stream()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    context.set_input_shape(names[0], (batch, *tuple(engine.get_tensor_shape(names[0]))[1:]))
    device = [torch.zeros(tuple(context.get_tensor_shape(name)), device="cuda") for name in names]
    host = [torch.zeros(buffer.shape, pin_memory=True) for buffer in device]
    for name, buffer in zip(names, device, strict=True):
        context.set_tensor_address(name, buffer.data_ptr())
    torch.cuda.synchronize()
    graph = None
    with torch.cuda.stream(stream):
        context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    if cuda_graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            context.execute_async_v3(stream.cuda_stream)
    run = graph.replay if graph else lambda: context.execute_async_v3(stream.cuda_stream)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]

    def once(keep: object = (runtime, engine)) -> Times:
        with torch.cuda.stream(stream):
            events[0].record()
            device[0].copy_(host[0], non_blocking=True)
            events[1].record()
            run()
            events[2].record()
            host[1].copy_(device[1], non_blocking=True)
            events[3].record()
        stream.synchronize()
        return events[1].elapsed_time(events[2]), events[0].elapsed_time(events[3])

    return once


def repeat(once: Callable[[], Times], seconds: float) -> list[Times]:
    """Run for at least the given time."""
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < LEAST:
        taken.append(once())
    return taken


def main() -> None:
    """Print both figures of both, and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--no-cuda-graph", action="store_true")
    options = parser.parse_args()
    graph = not options.no_cuda_graph
    with TensorRTRunner(options.engine, cuda_graph=graph) as runner:
        images = np.zeros((options.batch, *(side or 1 for side in runner.input_shape[1:])), np.float32)

        def ours() -> Times:
            parts = runner.trace(images)
            return parts.compute_ms, parts.h2d_ms + parts.compute_ms + parts.d2h_ms

        both = {"trtexec": plain_tensorrt(options.engine, options.batch, cuda_graph=graph), "ours": ours}
        taken: dict[str, list[Times]] = {name: [] for name in both}
        for once in both.values():
            repeat(once, WARMUP_S)
        for index in range(ROUNDS):
            for name in sorted(both, reverse=index % 2 == 1):
                taken[name] += repeat(both[name], DURATION_S / ROUNDS)
    print(f"{options.engine.name}, batch {options.batch}, {'CUDA graph' if graph else 'no CUDA graph'}")
    print("| figure | trtexec's way, p50 ms | imf-deploy, p50 ms | ratio |\n|---|---|---|---|")
    for place, figure in enumerate(("GPU compute", "latency")):
        theirs, own = (float(np.median([one[place] for one in taken[name]])) for name in ("trtexec", "ours"))
        print(f"| {figure} | {theirs:.4f} | {own:.4f} | {own / theirs:.3f} |")


if __name__ == "__main__":
    main()
