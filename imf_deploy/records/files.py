"""Records of files, one class for each kind; a record is stored beside its file as ``<file>.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, computed_field

from imf_deploy.compat import versions
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import write_json
from imf_deploy.forms import STRICT, Number, Whole
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import StripProof, Verification
from imf_deploy.records.half import HalfFit
from imf_deploy.records.making import (
    Block,
    Built,
    Calibrated,
    Confidence,
    Epoch,
    IfdShape,
    RefitProof,
    Refitted,
    StartingWeights,
    Tuned,
)
from imf_deploy.records.upgrade import SCHEMA
from imf_deploy.settings import Gate, InterfaceSettings
from imf_deploy.usage import TENSORRT_ONLY, usage

Shapes = dict[str, list[Whole | str]]
"""Name to shape of each input or output; a string is a dynamic dimension."""


def sidecar_path(path: Path) -> Path:
    """Return the path of a file's record: ``<file>.json``."""
    return path.with_name(path.name + ".json")


class Artifact(BaseModel):
    """Record of a file: its content, its origin, and its measurements.

    The file itself stays in its native format and loads in other tools; the record is a sidecar.

    Attributes:
        path: The file. The sidecar holds only its name, so that a folder can be moved.
        kind: Kind of the record.
        format: ``safetensors``, ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        sha256: Hash of the file.
        parent: Hash of the file that it was made from; empty if there is none.
        recipe: Hash of everything that decided its content, for resuming a run.
        model: The architecture, as ``ModelSpec.to_dict``; for a product, with the design of its branches.
        preprocess: How images become input.
        tools: Versions at the time of writing.
    """

    model_config = STRICT
    path: Path
    kind: str
    format: str = "safetensors"
    sha256: str
    parent: str
    recipe: str
    model: dict[str, Any]
    preprocess: Preprocess
    tools: dict[str, Any] = Field(default_factory=versions)

    @classmethod
    def title(cls) -> str:
        """Return what messages call such a file."""
        return cls.model_config.get("title") or "a file"

    def save(self) -> Self:
        """Write the sidecar atomically, after the file itself, and return the same artifact."""
        content = self.model_dump(mode="json", exclude={"path"})
        write_json(sidecar_path(self.path), {"schema": SCHEMA, "path": self.path.name, **content})
        return self

    def revised(self, **changes: Any) -> Self:
        """Return a copy with changed fields, which is not yet saved."""
        return self.model_copy(update=changes)


class TeacherFile(Artifact, title="a teacher"):
    """Weights that were trained with cross-entropy alone.

    Attributes:
        history: One record for each epoch.
        accuracy: Accuracy on the test split, from 0 to 1.
        data: Name of the data.
        images: Number of training images.
        config: Settings of the training; empty if they are not known.
        starting_weights: Weights that the training started from; null if it started fresh.
    """

    kind: Literal["teacher"] = "teacher"
    history: list[Epoch] = []
    accuracy: Number | None = None
    data: str = ""
    images: Whole = 0
    config: dict[str, Any] = {}
    starting_weights: StartingWeights | None = None


class DistilledFile(Artifact, title="a distilled student"):
    """A student with its branches; the parent is the teacher's file.

    Attributes:
        history: One record for each epoch, including those of quantisation-aware training.
        refitted: Heads that were re-fitted at the end.
        blocks: Blocks of the student.
        teacher_features: The teacher's feature map that each branch learns.
        ifds: How the IFD of each block is built; empty in files of releases that knew no budget.
        members: Number of branches that an ``imf@k`` may keep; the others only help the training. Null for
            all.
        teacher: Architecture of the teacher, as ``ModelSpec.to_dict``.
        teacher_weights: Published weights of the teacher; null if they are from a file.
        teacher_key: Key of the teacher's weights in their file; empty uses the usual ones.
        teacher_accuracy: Accuracy of the teacher on the test split, from 0 to 1.
        teacher_tensors: Hashes of the teacher's weights.
        data: Name of the data.
        data_config: Settings of the data, as ``DataSettings``.
        config: Settings of the distillation.
        starting_weights: Weights that the student started from; null if it started fresh.
        unlabelled: Number of images without labels that it also used.
        qat: Quantisation-aware training; null if there was none.
    """

    kind: Literal["distilled"] = "distilled"
    history: list[Epoch]
    refitted: list[Refitted] = []
    blocks: list[Block]
    teacher_features: list[Block]
    ifds: list[IfdShape] = []
    members: Whole | None = None
    teacher: dict[str, Any]
    teacher_weights: StartingWeights | None = None
    teacher_key: str = ""
    teacher_accuracy: Number | None
    teacher_tensors: list[str]
    data: str
    data_config: dict[str, Any]
    config: dict[str, Any]
    starting_weights: StartingWeights | None = None
    unlabelled: Whole = 0
    qat: Tuned | None = None


class ProductFile(Artifact, title="a stripped student"):
    """A stripped student; the parent is the distilled file.

    Attributes:
        product: ``plain`` or ``imf@k``.
        strip: The proof of stripping; null if nothing was stripped.
        parameters: Number of trainable values; null if they were not counted, as are MACs.
        macs: Multiply-accumulates for one image.
        data: Name of the data.
        data_config: Settings of the data, as ``DataSettings``.
        starting_weights: Weights that the training started from; null if it started fresh.
        evaluated_on: Fingerprint of the data that the accuracies are measured on; empty before.
        accuracy: Accuracy in PyTorch on the test split.
        validation_accuracy: Accuracy in PyTorch on the validation split, for choosing.
        images: Number of test images.
        history: One record for each epoch, if the product was trained directly.
        refitted: Heads that were re-fitted, if the product was trained directly.
        confidence: How its confidences were calibrated; null if they were not.
    """

    kind: Literal["product"] = "product"
    product: str
    strip: StripProof | None = None
    parameters: Whole | None = None
    macs: Whole | None = None
    data: str
    data_config: dict[str, Any]
    starting_weights: StartingWeights | None = None
    evaluated_on: str = ""
    accuracy: Number | None = None
    validation_accuracy: Number | None = None
    images: Whole = 0
    history: list[Epoch] = []
    refitted: list[Refitted] = []
    confidence: Confidence | None = None


class DeployableFile(Artifact, title="an ONNX file or an engine"):
    """What ONNX files and engines have in common.

    Attributes:
        product: ``plain`` or ``imf@k``; empty if nothing was stripped.
        precision: ``fp32``, ``fp16`` or ``int8``.
        inputs: Name to shape of each input.
        outputs: Name to shape of each output.
        source: Hash of the product that it was made from.
        parameters: Number of the product's parameters; null for a file of unknown origin, as are the next
            three.
        macs: Multiply-accumulates of the product for one image.
        data: Name of the data that the product was trained on.
        data_config: Settings of the data, as ``DataSettings``.
        starting_weights: Weights that the product's training started from.
        confidence: How the confidences of the product were calibrated; null if they were not.
        gate: The gate that the file was made for.
        verify: Measurements of ``verify``; null before.
    """

    product: str = ""
    precision: str = "fp32"
    inputs: Shapes = {}
    outputs: Shapes = {}
    source: str = ""
    parameters: Whole | None = None
    macs: Whole | None = None
    data: str | None = None
    data_config: dict[str, Any] | None = None
    starting_weights: StartingWeights | None = None
    confidence: Confidence | None = None
    gate: Gate | None = None
    verify: Verification | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def usage(self) -> list[str]:
        """How an application uses the file, in sentences."""
        return usage(self.preprocess, self.inputs, self.outputs)


def carried(record: ProductFile | DeployableFile) -> dict[str, Any]:
    """Return the fields that the records of all files made from a product share."""
    names = (
        "model",
        "preprocess",
        "product",
        "parameters",
        "confidence",
        "macs",
        "data",
        "data_config",
        "starting_weights",
    )
    return {name: getattr(record, name) for name in names}


class OnnxFile(DeployableFile, title="an ONNX file"):
    """An ONNX file.

    Attributes:
        operators: Number of nodes by operator.
        opset: Opset of the default domain.
        calibration: How INT8 was made; null for float files.
        interface: What the file takes and returns.
        half: How fp16 was fitted to images; null for other files, and if neither images nor weights asked for
            it.
    """

    kind: Literal["onnx"] = "onnx"
    format: Literal["onnx"] = "onnx"
    operators: dict[str, Whole] = {}
    opset: Whole = 0
    calibration: Calibrated | None = None
    interface: InterfaceSettings = InterfaceSettings()
    half: HalfFit | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def usage(self) -> list[str]:
        """How an application uses the file, in sentences."""
        target = self.calibration.target if self.calibration else ""
        sentences = usage(self.preprocess, self.inputs, self.outputs, self.interface)
        return [*([TENSORRT_ONLY] if target == "tensorrt" else []), *sentences]


class EngineFile(DeployableFile, title="an engine"):
    """A TensorRT engine; the parent is its ONNX file.

    Attributes:
        targets: Architectures of a TensorRT-RTX engine.
        batch: Batch sizes: a range for each optimisation profile.
        build: How the engine was built.
        stripped: Whether the engine contains no weights.
        refit: The proof of replaced weights; null if it has those that it was built with.
    """

    kind: Literal["engine"] = "engine"
    format: Literal["tensorrt", "tensorrt_rtx"]
    targets: list[str]
    batch: str
    build: Built | None = None
    stripped: bool = False
    refit: RefitProof | None = None

    def built_with(self, option: str) -> bool:
        """Return whether an option of its build was on."""
        return bool(self.build and self.build.options.get(option))


def verified(file: DeployableFile) -> Verification:
    """Return the measurements of ``verify``.

    Raises:
        ImfDeployError: the file was not verified.
    """
    if file.verify is None:
        raise ImfDeployError(f"{file.path} was not verified", "Verify it first")
    return file.verify


KINDS: dict[str, type[Artifact]] = {
    "teacher": TeacherFile,
    "distilled": DistilledFile,
    "product": ProductFile,
    "onnx": OnnxFile,
    "engine": EngineFile,
}
