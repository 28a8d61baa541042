"""What is said of INT8 files, from latencies whose ratio is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imf_deploy.benchmark.int8 import WORTH, compare, do_int8_engines_pay, does_int8_pay, int8_rows
from imf_deploy.benchmark.latency import Latency, ratio
from imf_deploy.benchmark.products import FileLatency, was_it_busy
from imf_deploy.benchmark.result import BenchRow
from imf_deploy.files import sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile, OnnxFile


@pytest.fixture
def files(tmp_path: Path) -> list[OnnxFile]:
    """An fp32 and an INT8 file of one product; nothing but their records is read."""
    path = tmp_path / "net-plain-fp32.onnx"
    path.write_bytes(b"weights")
    preprocess = Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("a", "b", "c"))
    fp32 = OnnxFile(
        path=path, sha256=sha256_file(path), parent="", recipe="", model={}, preprocess=preprocess,
        product="plain", precision="fp32",
    )  # fmt: skip
    return [fp32, fp32.revised(sha256="b", precision="int8")]


def drifting(factor: float, seed: int) -> Latency:
    """A machine that becomes ten times slower meanwhile: medians over all rounds say nothing."""
    generator = np.random.default_rng(seed)
    levels = np.geomspace(1e4, 1e5, 36)
    return Latency(
        tuple((level * factor * generator.lognormal(0, 0.01, 9)).astype(np.int64) for level in levels), 1, 6
    )


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.5, "INT8 of plain is 2.00 times as fast as fp32 (0.0"),
        (1.0, "INT8 of plain is not faster here: no difference from fp32 was found (1.00 times its latency"),
        (1.3, "INT8 of plain is slower than fp32: 1.30 times its latency (0.0"),
    ],
)
def test_each_answer_has_its_sentence(files: list[OnnxFile], factor: float, words: str) -> None:
    single, whole = drifting(1.0, 0), drifting(factor, 1)
    to_fp32, to_pytorch = ratio(whole, single), ratio(single, whole)
    latencies = {
        files[0].sha256: FileLatency(single, single, ratio(single, single), 1),
        "b": FileLatency(whole, single, to_pytorch, 1, to_fp32=to_fp32),
    }
    sentences = does_int8_pay(files, latencies)
    assert len(sentences) == 1
    assert sentences[0].startswith(words)
    assert "95 % interval" in sentences[0]
    # Microseconds are no zero.
    assert "0.00 ms" not in sentences[0]
    assert does_int8_pay(files[:1], latencies) == []


def test_a_busy_machine_is_told_once() -> None:
    one = drifting(1.0, 0)
    quiet = FileLatency(one, one, ratio(one, one), 1)
    busy = replace(quiet, other_cpus=1e3)
    assert was_it_busy({}) == was_it_busy({"a": quiet}) == []
    (sentence,) = was_it_busy({"a": busy, "b": busy})
    assert "other work used 1000.0 of its" in sentence


def sentence(factor: float) -> str:
    int8, half = drifting(factor, 1), drifting(1.0, 0)
    return compare("The INT8 engine of plain", int8, ratio(int8, half), "fp16", WORTH)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.5, "The INT8 engine of plain is 2.00 times as fast as fp16 (0.0"),
        (0.92, "The INT8 engine of plain is not worthwhile here: it is only 1.09 times as fast as fp16 (0.0"),
        (1.0, "The INT8 engine of plain is not faster here: no difference from fp16 was found"),
        (1.3, "The INT8 engine of plain is slower than fp16: 1.30 times its latency"),
    ],
)
def test_an_engine_has_to_be_worth_its_rounding(factor: float, words: str) -> None:
    assert sentence(factor).startswith(words)
    assert sentence(factor).endswith("Use fp16") == (factor == 0.92)


def engine(path: Path, precision: str) -> EngineFile:
    """An engine of the full TensorRT by its header, with its record."""
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 6, 0, 26]) + precision.encode() + bytes(100))
    preprocess = Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("a", "b", "c"))
    return EngineFile(
        path=path, sha256=sha256_file(path), format="tensorrt", targets=[], batch="1:1:1",
        parent="", recipe="", model={}, preprocess=preprocess,
        product="imf@1", precision=precision,
    ).save()  # fmt: skip


def row(path: Path, factor: float, *, cuda_graph: bool = True, runtime: str = "tensorrt") -> BenchRow:
    way = {"runtime": runtime, "cuda_graph": cuda_graph}
    return BenchRow(path.name, path, "", "", way, drifting(factor, 1), None, None, None)


def test_bench_compares_int8_engines_with_fp16_ones_measured_alike(tmp_path: Path) -> None:
    half, int8 = (engine(tmp_path / f"net-{name}.engine", name).path for name in ("fp16", "int8"))
    stranger = tmp_path / "other.engine"
    stranger.write_bytes(b"without a record")
    rows = [row(half, 1.0), row(half, 1.0, cuda_graph=False), row(int8, 0.5), row(stranger, 0.1)]
    (told,) = int8_rows(rows)
    assert told.startswith("The INT8 engine of imf@1, batch 1, CUDA graph is 2.00 times as fast as fp16")
    assert int8_rows([row(half, 1.0), row(int8, 0.5, cuda_graph=False)]) == []
    assert int8_rows([row(half, 1.0, runtime="onnxruntime"), row(int8, 0.5)]) == []
    assert int8_rows(rows[:2]) == []


def test_engines_that_do_not_run_here_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    files = [engine(tmp_path / f"net-{name}.engine", name) for name in ("fp16", "int8")]
    assert do_int8_engines_pay(files, 0.1) == []
