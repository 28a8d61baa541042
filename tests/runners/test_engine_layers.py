"""The layers of an engine: TensorRT's JSON in the forms of several releases, and times."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.runners.engine_layers import (
    EngineLayer,
    profile_layers,
    read_layers,
    short_type,
    with_times,
)


def tensor(**facts: str) -> dict[str, Any]:
    return {"Name": "x", "Location": "Device", "Dimensions": [1, 64, 28, 28], **facts}


TEN = {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
HALF = {"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}
NEWER = {"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}


def test_a_detailed_engine() -> None:
    layers = read_layers(
        json.dumps(
            {
                "Layers": [
                    {
                        "Name": "conv1 + relu1",
                        "LayerType": "CaskConvolution",
                        "Inputs": [tensor(**TEN), tensor(**HALF)],
                        "Outputs": [tensor(**HALF)],
                        "TacticName": "sm90_xmma_fprop_implicit_gemm",
                        "TacticValue": "0x1",
                    },
                    {"Name": "out", "LayerType": "Reformat", "Inputs": [tensor(**HALF)],
                     "Outputs": [tensor(**NEWER)], "TacticValue": "0x00000000000003e8"},
                    {"Name": "signal", "LayerType": "signal", "Inputs": [], "Outputs": []},
                ],
                "Bindings": ["images", "logits"],
            }
        )
    )  # fmt: skip
    assert [layer.types for layer in layers] == ["int8, fp16 -> fp16", "fp16 -> fp32", ""]
    assert [layer.tactic for layer in layers] == ["sm90_xmma_fprop_implicit_gemm", "0x00000000000003e8", ""]
    assert layers[0].inputs[0] == TEN["Format/Datatype"]
    assert layers[0].to_dict()["types"] == "int8, fp16 -> fp16"


def test_an_engine_without_details_has_names() -> None:
    assert read_layers('{"Layers": ["conv1 + relu1", "pool"]}') == [
        EngineLayer("conv1 + relu1"), EngineLayer("pool")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", '{"Layers": 3}', "[]", "no JSON"])
def test_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ImfDeployError):
        read_layers(text)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Int8 NC/32HW", "int8"), ("Row major linear FP32", "fp32"), ("Half", "fp16"), ("BF16", "bf16"),
        ("Float", "fp32"), ("Int64", "int64"), ("FP8", "fp8"), ("", "?"), ("of another kind", "?"),
    ],
)  # fmt: skip
def test_types_in_short(text: str, short: str) -> None:
    assert short_type(text) == short


def test_times_are_medians_and_none_is_lost() -> None:
    times = {"a": [1.0, 9.0, 2.0], "reformat before b": [0.5]}
    timed = with_times([EngineLayer("a"), EngineLayer("b")], times)
    assert [(layer.name, layer.milliseconds) for layer in timed] == [
        ("a", 2.0), ("b", None), ("reformat before b", 0.5)
    ]  # fmt: skip


class Context:
    """Reports two layers to its profiler after each run, as an execution context does."""

    profiler: Any = None

    def run(self) -> None:
        self.profiler.report_layer_time("conv", 0.25)
        self.profiler.report_layer_time("pool", 0.125)


class Inspector:
    execution_context: Any = None

    def get_engine_information(self, form: Any) -> str:
        assert self.execution_context is not None
        return '{"Layers": ["conv", "pool"]}'


class Engine:
    create_engine_inspector: Callable[[], Inspector] = Inspector


def test_the_profiler_is_one_of_the_library() -> None:
    trt = import_tensorrt("rtx")
    context = Context()
    layers = profile_layers(trt, Engine(), context, context.run, 3)
    assert isinstance(context.profiler, trt.IProfiler)
    assert [(layer.name, layer.milliseconds) for layer in layers] == [("conv", 0.25), ("pool", 0.125)]
    assert [len(taken) for taken in context.profiler.times.values()] == [3, 3]
