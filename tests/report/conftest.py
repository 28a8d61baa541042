"""A realistic report, built in place so that every test may change it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from imf_deploy.records.upgrade import SCHEMA
from imf_deploy.report import html, plots

_DRAWN: dict[str, str | None] = {}


def _once(draw: Callable[..., str | None]) -> Callable[..., str | None]:
    def drawn(*args: Any, **named: Any) -> str | None:
        key = repr((draw.__name__, args, named))
        if key not in _DRAWN:
            _DRAWN[key] = draw(*args, **named)
        return _DRAWN[key]

    return drawn


@pytest.fixture(autouse=True)
def each_picture_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of reports that share numbers share pictures: drawing eight takes half a second.

    Only pages do; ``plots`` itself draws whenever it is called.
    """
    kept = {
        name: _once(draw)
        for name, draw in vars(plots).items()
        if getattr(draw, "__module__", "") == plots.__name__
    }
    monkeypatch.setattr(html, "plots", SimpleNamespace(**kept))


_PRODUCTS: dict[str, dict[str, Any]] = {
    "imf@1": {"accuracy": 0.8765, "ms": 0.62, "pytorch_ms": 1.9, "parameters": 94_730, "macs": 5_300_000},
    "imf@2": {"accuracy": 0.889, "ms": 0.94, "pytorch_ms": 2.9, "parameters": 310_410, "macs": 9_800_000},
    "imf@3": {"accuracy": 0.8985, "ms": 1.71, "pytorch_ms": 5.1, "parameters": 1_204_010, "macs": 17_100_000},
    "plain": {"accuracy": 0.9025, "ms": 2.48, "pytorch_ms": 6.7, "parameters": 2_236_682, "macs": 24_600_000},
}


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCB"
    "d81ytgAAAABJRU5ErkJggg=="
)
_NOT_RUN: dict[str, Any] = {
    "name": "engine fp16", "against": "ONNX fp16", "status": "not-run", "reason": "no CUDA device",
    "images": 0, "max_abs_diff": None, "tolerance": None, "agreement": None, "min_agreement": None,
}  # fmt: skip


def _rung(name: str, against: str, difference: float, tolerance: float, images: int) -> dict[str, Any]:
    return {
        "name": name, "against": against, "status": "pass", "reason": "", "images": images,
        "max_abs_diff": difference, "tolerance": tolerance, "agreement": 1.0, "min_agreement": 0.99,
    }  # fmt: skip


def _ladder(product: str, precision: str) -> list[dict[str, Any]]:
    rungs = [_rung("stripped", "training graph", 0.0, 0.0, 256)]
    if product != "plain":
        rungs.append(_rung("folded", "stripped", 3.8e-6, 1e-4, 256))
    rungs.append(_rung("ONNX fp32", rungs[-1]["name"], 8.1e-6, 1e-3, 2000))
    if precision == "fp16":
        rungs.append(_rung("ONNX fp16", "ONNX fp32", 1.9e-2, 5e-2, 2000))
    return rungs


GATE: dict[str, Any] = {"gate": [["recall:Shirt", 1.5]], "metric": []}


def _classes(half: bool) -> list[dict[str, Any]]:
    return [
        {
            "label": "Shirt", "images": 1000, "pytorch_right": 760, "right": 760 - half, "changed": 3 * half,
            "predicted": 775 - half, "pytorch_predicted": 775,
            "confused": {"Bag": 240 + half}, "pytorch_confused": {"Bag": 240},
        },
        {
            "label": "Bag", "images": 1000, "pytorch_right": 985, "right": 985, "changed": 0,
            "predicted": 1225 + half, "pytorch_predicted": 1225,
            "confused": {"Shirt": 15}, "pytorch_confused": {"Shirt": 15},
        },
    ]  # fmt: skip


def _metric(title: str, value: float, reference: float, **about: Any) -> dict[str, Any]:
    return {
        "title": title, "unit": "points", "higher_is_better": True, "value": value, "reference": reference,
        "interval": None, "reference_interval": None, **about,
    }  # fmt: skip


def _metrics(accuracy: float, half: bool) -> dict[str, Any]:
    own, low, high = accuracy - 0.0005 * half, 0.31 - 0.02, 0.31 + 0.02
    return {
        "top1": _metric("accuracy", own, accuracy, interval=[own - 0.01, own + 0.01]),
        "balanced_accuracy": _metric("balanced accuracy", own - 0.012, accuracy - 0.012),
        "macro_f1": _metric("macro F1", accuracy - 0.02, accuracy - 0.02),
        "nll": _metric(
            "negative log-likelihood", 0.31 + 0.004 * half, 0.31, unit="nats", higher_is_better=False,
            interval=[low, high], reference_interval=[low, high],
        ),
        "ece": _metric("calibration error", 0.021 + 0.013 * half, 0.021, higher_is_better=False),
        "recall:Shirt": _metric("recall of Shirt", 0.76 - 0.001 * half, 0.76),
    }  # fmt: skip


def _worst(half: bool) -> list[dict[str, Any]]:
    answer: dict[str, Any] = {
        "image": 17, "label": "Shirt", "pytorch": "Shirt", "pytorch_probability": 0.51,
        "answer": "Coat" if half else "Shirt", "probability": 0.505, "divergence": 2e-3 if half else 1e-9,
    }  # fmt: skip
    return [answer]


def _artifact(product: str, precision: str) -> dict[str, Any]:
    known, half = _PRODUCTS[product], precision == "fp16"
    accuracy = known["accuracy"] - 0.0005 * half
    ms, pytorch_ms = known["ms"] * (1.35 if half else 1), known["pytorch_ms"]
    margin = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 2000)
    return {
        "path": f"deploy/mobilenetv2-{product}-{precision}.onnx",
        "sha256": hashlib.sha256((product + precision).encode()).hexdigest(),
        "product": product,
        "precision": precision,
        "format": "onnx",
        "status": "pass",
        "reason": None,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - margin, accuracy + margin],
        "pytorch_accuracy": known["accuracy"],
        "pytorch_accuracy_interval": [known["accuracy"] - margin, known["accuracy"] + margin],
        "agreement": 0.9985 if half else 1.0,
        "max_abs_diff": 1.9e-2 if half else 8.1e-6,
        "mean_abs_diff": 2.2e-3 if half else 9.0e-7,
        "cosine": 0.999998 if half else 1.0,
        "gate": {"max_accuracy_drop": 1.0, "min_agreement": 0.97, **GATE},
        "metrics": _metrics(known["accuracy"], half),
        "ladder": _ladder(product, precision),
        "classes": _classes(half),
        "worst": _worst(half),
        "images": 2000,
        "latency_ms": {"p50": ms, "p90": ms * 1.07, "p99": ms * 1.31},
        "pytorch_latency_ms": {"p50": pytorch_ms, "p90": pytorch_ms * 1.05, "p99": pytorch_ms * 1.2},
        "speedup": {
            "ratio": pytorch_ms / ms,
            "low": 0.97 * pytorch_ms / ms,
            "high": 1.02 * pytorch_ms / ms,
        },
        "threads": 2,
        "batch": 1,
        "memory_bytes": 9_400_000,
        "parameters": known["parameters"],
        "macs": known["macs"],
        "size_bytes": known["parameters"] * (2 if half else 4) + 60_000,
        "validation_accuracy": accuracy + 0.004,
    }


def _engine(product: str) -> dict[str, Any]:
    unmeasured = (
        "accuracy", "accuracy_interval", "pytorch_accuracy", "pytorch_accuracy_interval", "agreement",
        "max_abs_diff", "mean_abs_diff", "cosine", "images", "latency_ms",
        "pytorch_latency_ms", "speedup", "threads", "batch", "memory_bytes", "validation_accuracy",
    )  # fmt: skip
    row: Any = _artifact(product, "fp16") | dict.fromkeys(unmeasured)
    row |= {
        "path": f"deploy/mobilenetv2-{product}-fp16-sm86.engine",
        "format": "tensorrt_rtx",
        "status": "not-run",
        "reason": "no CUDA device",
        "ladder": [*row["ladder"], {**_NOT_RUN}],
        "metrics": {},
        "classes": [],
        "worst": [],
        "targets": ["SM86"],
    }
    result: dict[str, Any] = row
    return result


def _proof(product: str) -> dict[str, Any]:
    whole = product == "plain"
    return {
        "product": product,
        "ladder": _ladder(product, "")[: 1 if whole else 2],
        "logits_identical": whole,
        "max_abs_diff": 0.0 if whole else 3.8e-6,
        "images": 256,
        "parameters_before": 4_612_344,
        "parameters_after": _PRODUCTS[product]["parameters"],
        "macs_before": 41_300_000,
        "macs_after": _PRODUCTS[product]["macs"],
        "removed": [
            {"module": "attentive", "parameters": 40},
            {"module": "branches.0.steps.0.depthwise", "parameters": 216},
            {"module": "branches.3", "parameters": 1_231_242},
        ],
        "teacher_tensors_found": 0,
        "attentive_tensors_found": 0,
        "keys_match": True,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """Return the report of a run that went well on a machine without a GPU."""
    products = list(_PRODUCTS)
    files = [_artifact(product, precision) for product in products for precision in ("fp32", "fp16")]
    return {
        "schema": SCHEMA,
        "student": "mobilenetv2",
        "teacher": "cifar_resnet20x4",
        "dataset": "Fashion-MNIST subset (10,000 training, 2,000 test images)",
        "seed": 0,
        "command": "imf-deploy distill-and-export --student mobilenetv2 --products plain,imf@1,imf@2,imf@3 "
        "--epochs 6 --seed 0 --output run",
        "teacher_accuracy": 0.9345,
        "created": "2026-03-01T12:00:00+00:00",
        "status": "pass",
        "notes": ["fp16 files are meant for GPUs; on this CPU they are slower than fp32."],
        "environment": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.90GHz",
            "threads": 2,
            "cuda": False,
            "versions": {"python": "3.11.9", "torch": "2.14.1", "onnxruntime": "1.32.0"},
        },
        "config": {
            "epochs": 6,
            "batch_size": 128,
            "lr": 0.1,
            "alpha": 20.0,
            "beta": 20.0,
            "temperature": 4.0,
        },
        "history": [
            {
                "epoch": epoch,
                "lr": 0.1 * (1 - epoch / 7),
                "cross_entropy": 1.4 / epoch**0.7,
                "student_kd": 0.42 / epoch**0.8,
                "branch_kd": 0.31 / epoch**0.6,
                "prefix_kd": 0.22 / epoch**0.9,
                "feature": 0.055 / epoch**0.3,
                "validation_accuracy": 0.905 - 0.18 / epoch**1.3,
            }
            for epoch in range(1, 7)
        ],
        "teacher_history": [
            {
                "epoch": epoch,
                "lr": 0.1,
                "cross_entropy": 1.2 / epoch,
                "validation_accuracy": 0.93 - 0.2 / epoch,
            }
            for epoch in range(1, 5)
        ],
        "refitted": [
            {"head": "plain", "before": 0.895, "after": 0.9012, "kept": True},
            {"head": "imf@1", "before": 0.881, "after": 0.8795, "kept": False},
        ],
        "blocks": [
            {"name": f"features.{index}", "channels": channels, "size": size}
            for index, channels, size in ((3, 24, 14), (6, 32, 7), (13, 96, 4), (17, 320, 2))
        ],
        "strip": [_proof(product) for product in products],
        "artifacts": [*files, _engine("imf@3"), _engine("plain")],
        "pictures": {"17": PIXEL},
        "recommendation": {
            "path": "deploy/mobilenetv2-imf@3-fp32.onnx",
            "reason": "the fastest file within 0.5 points of the best",
            "gate": "accuracy falls by at most 1 point",
        },
    }
