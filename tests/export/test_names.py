"""Names of TensorRT's interface that only a GPU would show to be wrong."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt"])
def test_every_attribute_that_is_used_exists(module: str) -> None:
    trt = pytest.importorskip(module, exc_type=ImportError)
    used = {
        trt.Builder: ["create_network", "create_builder_config", "create_optimization_profile",
                      "build_serialized_network"],
        trt.INetworkDefinition: ["name", "num_outputs", "num_inputs", "num_layers", "get_input"],
        trt.IBuilderConfig: [
            "set_flag", "clear_flag", "hardware_compatibility_level", "builder_optimization_level",
            "set_memory_pool_limit", "progress_monitor", "add_optimization_profile", "create_timing_cache",
            "set_timing_cache", "get_timing_cache", "profiling_verbosity",
        ],
        trt.ITimingCache: ["serialize"],
        trt.BuilderFlag: ["TF32", "VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN"],
        trt.HardwareCompatibilityLevel: ["AMPERE_PLUS"],
        trt.MemoryPoolType: ["WORKSPACE"],
        trt.NetworkDefinitionCreationFlag: ["STRONGLY_TYPED"],
        trt.IProgressMonitor: ["phase_start", "step_complete", "phase_finish"],
        trt.OnnxParser: ["parse_from_file", "num_errors", "get_error"],
        trt.OnnxParserRefitter: ["refit_from_file", "num_errors", "get_error"],
        trt.ParserError: ["desc", "node_operator", "node_name"],
        trt.Refitter: ["get_missing_weights", "refit_cuda_engine"],
        trt.Runtime: ["engine_host_code_allowed", "deserialize_cuda_engine"],
        trt.ICudaEngine: ["refittable", "create_serialization_config", "serialize_with_config",
                          "num_optimization_profiles"],
        trt.ProfilingVerbosity: ["DETAILED"],
        trt.ISerializationConfig: ["clear_flag"],
        trt.SerializationFlag: ["EXCLUDE_WEIGHTS"],
        trt.IExecutionContext: ["active_optimization_profile", "set_optimization_profile_async"],
    }  # fmt: skip
    missing = [
        f"{kind.__name__}.{name}" for kind, names in used.items() for name in names if not hasattr(kind, name)
    ]
    assert not missing
