"""Records of files: each kind has one, which is kept beside the file as ``<file>.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from imf_deploy.compat import versions
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import write_json
from imf_deploy.forms import STRICT, Number, Whole
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import StripProof, Verification
from imf_deploy.records.making import Block, Built, Calibrated, Epoch, RefitProof, Refitted, Tuned
from imf_deploy.records.upgrade import SCHEMA
from imf_deploy.settings import Gate

Shapes = dict[str, list[Whole | str]]
"""Name to shape of each input or output; a string is a dynamic dimension."""


def sidecar_path(path: Path) -> Path:
    """Return where the record of a file lies: ``<file>.json``."""
    return path.with_name(path.name + ".json")


class Artifact(BaseModel):
    """What a file is, where it comes from, and what was measured of it.

    The native file loads unchanged in its own tools; this record is only ever beside it.

    Attributes:
        path: The file. Sidecars hold its name alone, so that a folder can be moved.
        kind: Which record this is.
        format: ``safetensors``, ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        sha256: Hash of the file.
        parent: Hash of the file that it was made from; empty where there is none.
        recipe: Hash of everything that decided its content, for resuming a run.
        model: The architecture, as ``ModelSpec.to_dict``; of a product with what its branches are made of.
        preprocess: How pictures become input.
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
        """Write the sidecar, atomically, after the file itself; return the same artifact."""
        content = self.model_dump(mode="json", exclude={"path"})
        write_json(sidecar_path(self.path), {"schema": SCHEMA, "path": self.path.name, **content})
        return self

    def revised(self, **changes: Any) -> Self:
        """Return a copy with other fields; not yet saved."""
        return self.model_copy(update=changes)


class TeacherFile(Artifact, title="a teacher"):
    """Weights that were trained by cross-entropy alone.

    Attributes:
        history: One record for each epoch.
        accuracy: On the test split, from 0 to 1.
        data: Name of the data.
        images: Number of training images.
    """

    kind: Literal["teacher"] = "teacher"
    history: list[Epoch] = []
    accuracy: Number | None = None
    data: str = ""
    images: Whole = 0


class DistilledFile(Artifact, title="a distilled student"):
    """A student with its branches; the parent is the teacher's file.

    Attributes:
        history: One record for each epoch, those of quantisation-aware training included.
        refitted: Heads that were re-fitted at the end.
        blocks: The student's blocks.
        teacher_features: The teacher's feature map that each branch learns.
        teacher: The teacher's architecture, as ``ModelSpec.to_dict``.
        teacher_key: Key of the teacher's weights in their file; empty takes the usual ones.
        teacher_accuracy: On the test split, from 0 to 1.
        teacher_tensors: Hashes of the teacher's weights.
        data: Name of the data.
        data_config: As ``DataSettings``.
        config: Settings of the distillation.
        qat: Quantisation-aware training; null where there was none.
    """

    kind: Literal["distilled"] = "distilled"
    history: list[Epoch]
    refitted: list[Refitted] = []
    blocks: list[Block]
    teacher_features: list[Block]
    teacher: dict[str, Any]
    teacher_key: str = ""
    teacher_accuracy: Number | None
    teacher_tensors: list[str]
    data: str
    data_config: dict[str, Any]
    config: dict[str, Any]
    qat: Tuned | None = None


class ProductFile(Artifact, title="a stripped student"):
    """A stripped student; the parent is the distilled file.

    Attributes:
        product: ``plain`` or ``imf@k``.
        strip: The proof of stripping; null where nothing was stripped.
        parameters: Number of trainable values; null where nobody counted, and so are MACs.
        macs: Multiply-accumulates for one image.
        data: Name of the data.
        data_config: As ``DataSettings``.
        evaluated_on: Fingerprint of the data that the accuracies are measured on; empty before.
        accuracy: In PyTorch, on the test split.
        validation_accuracy: The same on the validation split, to choose by.
        images: Number of test images.
        history: One record for each epoch, where the product was trained as such.
        refitted: Heads that were re-fitted, where the product was trained as such.
    """

    kind: Literal["product"] = "product"
    product: str
    strip: StripProof | None = None
    parameters: Whole | None = None
    macs: Whole | None = None
    data: str
    data_config: dict[str, Any]
    evaluated_on: str = ""
    accuracy: Number | None = None
    validation_accuracy: Number | None = None
    images: Whole = 0
    history: list[Epoch] = []
    refitted: list[Refitted] = []


class DeployableFile(Artifact, title="an ONNX file or an engine"):
    """What ONNX files and engines have in common.

    Attributes:
        product: ``plain`` or ``imf@k``; empty where nothing was stripped.
        precision: ``fp32``, ``fp16`` or ``int8``.
        inputs: Name to shape of each input.
        outputs: Name to shape of each output.
        source: Hash of the product that it was made from.
        parameters: Of the product; null for a file of unknown origin, and so are the next three.
        macs: Of the product, for one image.
        data: Name of the data that the product was trained on.
        data_config: As ``DataSettings``.
        gate: What the file was made to pass.
        verify: What ``verify`` measured; null before.
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
    gate: Gate | None = None
    verify: Verification | None = None


class OnnxFile(DeployableFile, title="an ONNX file"):
    """An ONNX file.

    Attributes:
        operators: Number of nodes by operator.
        opset: Of the default domain.
        calibration: How INT8 was made; null for float files.
    """

    kind: Literal["onnx"] = "onnx"
    format: Literal["onnx"] = "onnx"
    operators: dict[str, Whole] = {}
    opset: Whole = 0
    calibration: Calibrated | None = None


class EngineFile(DeployableFile, title="an engine"):
    """A TensorRT engine; the parent is its ONNX file.

    Attributes:
        targets: Architectures of a TensorRT-RTX engine.
        batch: Sizes of the batch: a range for each optimisation profile.
        build: How it was built.
        stripped: Whether its weights are left out.
        refit: The proof of other weights; null where it has those that it was built with.
    """

    kind: Literal["engine"] = "engine"
    format: Literal["tensorrt", "tensorrt_rtx"]
    targets: list[str]
    batch: str
    build: Built | None = None
    stripped: bool = False
    refit: RefitProof | None = None


def verified(file: DeployableFile) -> Verification:
    """Return what ``verify`` measured of a file.

    Raises:
        ImfDeployError: it was not verified.
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
