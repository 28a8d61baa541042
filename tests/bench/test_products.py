"""What is said of INT8 files, from latencies whose ratio is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imf_deploy.artifact import Artifact, describe
from imf_deploy.bench.int8 import does_int8_pay
from imf_deploy.bench.latency import Latency, ratio
from imf_deploy.bench.products import FileLatency, was_it_busy
from imf_deploy.preprocess import Preprocess


@pytest.fixture
def files(tmp_path: Path) -> list[Artifact]:
    """An fp32 and an INT8 file of one product; nothing but their records is read."""
    path = tmp_path / "net-plain-fp32.onnx"
    path.write_bytes(b"weights")
    preprocess = Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("a", "b", "c"))
    fp32 = describe(
        path, kind="onnx", format="onnx", parent="", recipe="", model={}, preprocess=preprocess,
        product="plain", precision="fp32",
    )  # fmt: skip
    return [fp32, replace(fp32, sha256="b", precision="int8")]


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
        (1.0, "INT8 of plain does not pay here: no difference from fp32 can be told (1.00 times its latency"),
        (1.3, "INT8 of plain is slower than fp32: 1.30 times its latency (0.0"),
    ],
)
def test_each_answer_has_its_sentence(files: list[Artifact], factor: float, words: str) -> None:
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
    assert "other work took 1000.0 of its" in sentence
