"""A file that classifies images: how it prepares them, how it runs, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from imf_deploy.artifact import load_artifact
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.onnx_record import onnx_record
from imf_deploy.files import existing_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import DeployableFile, EngineFile, OnnxFile, ProductFile
from imf_deploy.runners.base import Batch, Logits
from imf_deploy.runners.interface import as_input
from imf_deploy.runners.opening import Way
from imf_deploy.serving.output import refuse_sigmoid, softmax_at
from imf_deploy.settings.export import InterfaceSettings
from imf_deploy.settings.serving import HowToRun
from imf_deploy.tasks.classification import are_probabilities, as_logits

ENGINES = (".engine", ".trt", ".plan")
BATCH = 32
"""Images in a batch, unless a file fixes another number."""
# Number of noise images that show whether a batch works, and what the outputs mean.
_PROBE = 4


@dataclass(frozen=True, eq=False)
class Classifier:
    """A file, its record, and how to run it; compared by identity.

    Attributes:
        record: The record of the file.
        way: How it runs.
        batch: Images in every batch; 0 if any number works.
        probabilities: Whether the output is behind a softmax; ``None`` if only a run can show it.
        notes: Sentences about what was ignored.
    """

    record: DeployableFile | ProductFile
    way: Way
    batch: int = 0
    probabilities: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.record.path

    @property
    def interface(self) -> InterfaceSettings:
        """What the file takes and returns."""
        return self.record.interface if isinstance(self.record, OnnxFile) else InterfaceSettings()

    @property
    def preprocess(self) -> Preprocess:
        """How images are prepared as its input, and its classes."""
        return self.record.preprocess

    def open(self) -> Session:
        """Return a session; the file is loaded on entry."""
        return Session(self)


def open_classifier(
    path: Path, how: HowToRun | None = None, preprocess: Path | None = None, logits: str = ""
) -> Classifier:
    """Read what a file is, without running it.

    Args:
        path: An ONNX file, an engine, or weights of a stripped student.
        how: Device, threads, and trusted code; by default the CPU.
        preprocess: JSON with the preprocessing, for an ONNX file that does not carry it.
        logits: Output of an ONNX file that holds the logits; if empty, the one that fits the labels.

    Raises:
        UsageError: the file has an unknown suffix or does not exist, its preprocessing is unknown, or its
            input is not that of the preprocessing.
        ImfDeployError: the file or its record is damaged.
    """
    how = how or HowToRun()
    suffix = path.suffix.lower()
    existing_file(path, "the classifier")
    if suffix != ".onnx" and preprocess:
        raise UsageError(
            f"`preprocess` is for ONNX files, and {path} has a record of its own", "Leave `preprocess` out"
        )
    if suffix == ".onnx":
        return _onnx(path, how, preprocess, logits)
    if suffix in ENGINES:
        return _engine(path, how)
    if suffix == ".safetensors":
        return _weights(path, how)
    raise UsageError(
        f"{path} cannot be run: its suffix is not one of .onnx, .safetensors, {', '.join(ENGINES)}",
        "Rename or export it",
    )


def _onnx(path: Path, how: HowToRun, preprocess: Path | None, wanted: str) -> Classifier:
    info = describe_onnx(path)
    record, notes = onnx_record(path, info, preprocess)
    own = record.preprocess
    if own.resize == "input":
        raise UsageError(
            f"the record of {path} does not contain how images become its input: it was made for tensors",
            "Use `preprocess` FILE.json with size, resize, resize_to, mean, std, labels and color",
        )
    if record.interface.head == "top5":
        raise UsageError(
            f"{path} only returns the best classes, without the others", "Use the file that it was made from"
        )
    if len(info.inputs) == 1 and record.interface.input == "float":  # the runner refuses others
        _check_input(path, *next(iter(info.inputs.items())), own)
    shape = next(iter(info.inputs.values()), [])
    fixed = shape[0] if shape and isinstance(shape[0], int) else 0
    calibrated = record.calibration.logits if record.calibration else None
    output = wanted or (calibrated.output if calibrated else "")
    if output not in ("", *info.outputs):
        raise UsageError(
            f"{path} has no output '{output[:60]}', only {', '.join(list(info.outputs)[:8])}",
            "Check `logits`",
        )
    on_gpu = how.device.startswith("cuda")
    way = Way(
        path,
        how.threads or usable_cpus(),
        how.device,
        provider="cuda" if on_gpu else "cpu",
        logits=output,
        classes=own.num_classes,
        measured=False,
        any_type=record.interface.input != "float",
    )
    if record.calibration and record.calibration.target == "tensorrt":
        notes.append(f"{path} was made for TensorRT: ONNX Runtime is slower, and may answer otherwise")
    known = calibrated.probabilities if calibrated and output == calibrated.output else None
    return Classifier(record, way, fixed, known, tuple(notes))


def _check_input(path: Path, name: str, shape: list[int | str], preprocess: Preprocess) -> None:
    """Refuse an input that is not what the preprocessing makes."""
    if not preprocess.fits(shape):
        raise UsageError(
            f"the input '{name}' of {path} is {shape}, but its preprocessing makes [batch, "
            f"{', '.join(map(str, preprocess.shape))}]",
            "Use `preprocess` with what the network was trained with",
        )


def _engine(path: Path, how: HowToRun) -> Classifier:
    from imf_deploy.verification.run import largest_batch

    record = load_artifact(path, EngineFile)
    record.preprocess.check_known(str(path))
    device = how.device if how.device.startswith("cuda") else "cuda"
    way = Way(path, how.threads or usable_cpus(), device, "tensorrt", "", cuda_graph=True, measured=False)
    return Classifier(record, way, largest_batch(record))


def _weights(path: Path, how: HowToRun) -> Classifier:
    from imf_deploy.method.products import load_product

    product = load_product(path, how.trust_model)
    product.artifact.preprocess.check_known(str(path))
    way = Way(path, how.threads or usable_cpus(), how.device, "pytorch", "", product=product)
    return Classifier(product.artifact, way)


class Session:
    """A loaded file that answers for prepared images; a context manager.

    Args:
        classifier: The file.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._runner = classifier.way.open()
        self._size = classifier.batch
        self._probabilities = False
        self._normal = classifier.preprocess.normalize_array

    def __enter__(self) -> Self:
        """Load the file, and run it once to find what its outputs mean.

        Raises:
            UsageError: no output fits the classes, or the outputs are not those of a classifier with one
                class for each image.
            DeviceError: this machine lacks the device.
            ImfDeployError: the file does not load or run.
        """
        self._runner.__enter__()
        try:
            self._probabilities = self._probe()
        except BaseException:
            self._runner.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release the file."""
        self._runner.__exit__(*_)

    def _probe(self) -> bool:
        """Run noise, and return whether the outputs are probabilities."""
        own = self._classifier
        shape = (self._size or _PROBE, *own.preprocess.shape)
        noise = np.random.default_rng(0).standard_normal(shape, np.float32)
        if own.interface.input != "float":
            levels = np.random.default_rng(0).integers(0, 256, (len(noise), *own.preprocess.picture_shape))
            noise = self._input(np.broadcast_to(self._normal(levels.astype(np.uint8)), shape))
        try:
            answers = self._runner.infer(noise)
        except ImfDeployError as error:
            if self._size:
                raise
            try:  # some exporters declare the batch free, but bake that of their example into the graph
                answers = self._runner.infer(noise[:1])
            except ImfDeployError:
                raise error from None
            self._size = 1
        if isinstance(own.record, OnnxFile):
            name = getattr(self._runner, "output_name", "")
            refuse_sigmoid(own.path, name)
            if own.probabilities is None and softmax_at(own.path, name):
                return True
        return are_probabilities(answers) if own.probabilities is None else own.probabilities

    def logits(self, images: npt.NDArray[np.uint8]) -> Logits:
        """Return ``float32 [N, classes]``, of which a softmax gives the probabilities.

        Args:
            images: Prepared images, ``uint8 [N, C, H, W]``; any number.
        """
        return self.answers(self._normal(images))

    def answers(self, inputs: Batch) -> Logits:
        """Return what :meth:`logits` does, for normalised images, ``float32 [N, C, H, W]``."""
        size = self._size or BATCH
        outputs = [self._run(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        answers = np.concatenate(outputs)
        return as_logits(answers) if self._probabilities else answers

    def _run(self, batch: Batch) -> Logits:
        count = len(batch)
        if self._size and count < self._size:
            batch = np.resize(batch, (self._size, *batch.shape[1:]))
        return self._runner.infer(np.ascontiguousarray(self._input(batch)))[:count]

    def _input(self, batch: Batch) -> Batch:
        """Return normalised images as the file takes them."""
        return as_input(batch, self._classifier.interface, self._classifier.preprocess)
