"""The layers that an engine runs: formats, tactics and times, from TensorRT's inspector and profiler."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.untrusted import parse_object

_TYPES = {
    "int8": "int8", "int32": "int32", "int64": "int64", "fp8": "fp8", "bf16": "bf16", "bool": "bool",
    "fp16": "fp16", "half": "fp16", "fp32": "fp32", "float": "fp32",
}  # fmt: skip
_TYPE = re.compile("|".join(_TYPES), re.IGNORECASE)


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine, after all fusions by TensorRT.

    Attributes:
        name: The names of the fused layers, joined.
        kind: For example ``CaskConvolution`` or ``Reformat``; empty in an engine built without details.
        inputs: Format and type of each input, in TensorRT's terms.
        outputs: Format and type of each output.
        tactic: The kernel.
        milliseconds: Median over the runs, with the profiler between layers; ``None`` if it is not reported.
    """

    name: str
    kind: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tactic: str = ""
    milliseconds: float | None = None

    @property
    def types(self) -> str:
        """Types of inputs and outputs in short, such as ``int8, int8 -> fp16``."""
        return f"{_short(self.inputs)} -> {_short(self.outputs)}" if self.inputs or self.outputs else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"types": self.types}


def short_type(text: str) -> str:
    """Return the type in TensorRT's description of a format, such as ``int8``; ``?`` if it contains none."""
    match = _TYPE.search(text)
    return _TYPES[match[0].lower()] if match else "?"


def _short(formats: Sequence[str]) -> str:
    return ", ".join(map(short_type, formats)) or "none"


def profile_layers(
    trt: Any, engine: Any, context: Any, run: Callable[[], object], runs: int
) -> list[EngineLayer]:
    """Run an engine with a profiler and return its layers in the order of the engine.

    The profiler waits after every layer, so the sum of the layers is longer than a run. The context keeps the
    profiler.

    Args:
        trt: The library's module.
        engine: Deserialised engine.
        context: Context of the engine, with its shapes set and without a captured graph.
        run: Runs one inference, and returns when its result is available.
        runs: Number of inferences.

    Raises:
        ImfDeployError: the library provides no layer information.
    """
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = read_layers(str(text or ""))
    profiler = _profiler(trt)
    context.profiler = profiler
    for _ in range(runs):
        run()
    return with_times(layers, profiler.times)


def read_layers(text: str) -> list[EngineLayer]:
    """Read the inspector's JSON.

    Raises:
        ImfDeployError: the text has another form.
    """
    layers = parse_object(text, "TensorRT's layer information").get("Layers")
    if not isinstance(layers, list):
        raise ImfDeployError("TensorRT provides no layer information for this engine", "Build it again")
    return [_layer(entry) for entry in layers]


def _layer(entry: object) -> EngineLayer:
    # For an engine that was built without details, layers are only names.
    if not isinstance(entry, dict):
        return EngineLayer(str(entry))
    return EngineLayer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", "")),
        inputs=_formats(entry.get("Inputs")),
        outputs=_formats(entry.get("Outputs")),
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or ""),
    )


def _formats(tensors: object) -> tuple[str, ...]:
    """Return the format of each tensor; the key changed between releases."""
    if not isinstance(tensors, list):
        return ()
    keys = ("Format/Datatype", "Format", "DataType", "Datatype")
    return tuple(
        " ".join(str(tensor[key]) for key in keys if key in tensor)
        for tensor in tensors
        if isinstance(tensor, dict)
    )


def with_times(layers: Sequence[EngineLayer], times: Mapping[str, Sequence[float]]) -> list[EngineLayer]:
    """Return layers with the median of their times; layers that only the profiler reports are appended.

    Args:
        layers: Layers from the inspector.
        times: Milliseconds of every run, by name.
    """
    timed = [
        EngineLayer(one.name, one.kind, one.inputs, one.outputs, one.tactic, _median(times.get(one.name)))
        for one in layers
    ]
    known = {one.name for one in layers}
    return timed + [
        EngineLayer(name, milliseconds=_median(taken)) for name, taken in times.items() if name not in known
    ]


def _median(taken: Sequence[float] | None) -> float | None:
    return median(taken) if taken else None


def _profiler(trt: Any) -> Any:
    # The module is chosen at run time, so its classes are not types.
    class Times(trt.IProfiler):  # type: ignore[misc]
        """Stores the milliseconds of every layer."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT after a run, once for each layer."""
            self.times.setdefault(layer_name, []).append(ms)

    return Times()
