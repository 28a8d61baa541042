"""Stage: train a teacher, load a given one, or use the packaged one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file, fingerprint, sha256_file
from imf_deploy.image_size import Size, short, sides, undistorted
from imf_deploy.method.branches import Taps
from imf_deploy.models import (
    ModelSpec,
    check_behaviour,
    only_logits,
    preparation_of,
    read_pretrained,
    recipe_of,
    resolve,
)
from imf_deploy.models.published import PRETRAINED, is_published
from imf_deploy.models.sources import fixed_size
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.records.files import DistilledFile, ProductFile, TeacherFile, sidecar_path
from imf_deploy.records.making import StartingWeights
from imf_deploy.settings import (
    GivenTeacher,
    MonitoringSettings,
    ReadingSettings,
    TeacherSettings,
)
from imf_deploy.teacher_memory.memory import TeacherMemory
from imf_deploy.teaching.adapter import InputAdapter
from imf_deploy.teaching.fine_tuning import (
    OtherClassesError,
    check_reading,
    default_teacher,
    refusal,
    starting_weights,
    teacher_spec,
)
from imf_deploy.teaching.reading import FIND_OUT, best_built, build_teacher
from imf_deploy.training.checkpoint import History
from imf_deploy.training.device import choose_device
from imf_deploy.training.supervised import build_started, train_classifier

PACKAGED = "fashion_mnist_resnet14x2.safetensors"


def train_teacher(
    data: DataSet,
    config: TeacherSettings,
    path: Path,
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
) -> TeacherFile:
    """Train a teacher on a data set, from fresh weights or from those that ``config`` names.

    See :func:`train_classifier`.
    """
    check_reading(config)
    start = starting_weights(config, data)
    for note in start.notes if start else ():
        say(note)
    # The hash of the weights decides the result, not their place.
    own = {field.name: getattr(config, field.name) for field in fields(TeacherSettings)}
    train = TeacherSettings(**own | {"teacher_weights": PRETRAINED if start else ""})
    return train_classifier(
        teacher_spec(config, data), data, train, path, "teacher", overwrite, monitoring, start
    )


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: evaluation mode, no gradients.

    Attributes:
        module: ``[N, C, H, W]`` -> logits.
        spec: Its architecture.
        sha256: Hash of its weights file.
        accuracy: Accuracy on the test split of the data, from 0 to 1; ``None`` if there is none.
        history: One record per epoch of its training, if its sidecar has them.
        memory: Outputs shared with other trainings, if any.
        key: Key of its weights in the file; empty for the file's only or usual ones.
        recorded: Whether a record states that it was trained with the classes of the data.
        adapter: What is in front of ``module`` if it was trained on images that are prepared differently.
        origin: Published weights that it has, if any.
    """

    module: nn.Module
    spec: ModelSpec
    sha256: str
    accuracy: float | None
    history: History = field(default_factory=list)
    memory: TeacherMemory | None = None
    key: str = ""
    recorded: bool = False
    adapter: InputAdapter | None = None
    origin: StartingWeights | None = None

    @cached_property
    def identity(self) -> str:
        """Its identity: a file may contain several sets of weights, for several networks and settings."""
        usual = ModelSpec.for_images(self.spec.name, self.spec.num_classes, self.spec.image_size)
        library = resolve(self.spec.name).library
        # A record binds the weights to the name of a network.
        if self.recorded and not self.key and self.spec == usual and not self.adapter and library != "hf":
            return self.sha256
        adapted = [self.adapter.identity] if self.adapter else []
        network = recipe_of(self.spec) if library == "hf" else self.spec.to_dict()
        return fingerprint([self.sha256, self.key, network, *adapted])

    def logits(self, images: Tensor) -> Tensor:
        """Return its logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        return self._once(images, ["logits"], lambda: [only_logits(self.module, self.module(images))])[0]

    def look(self, images: Tensor, taps: Taps) -> list[Tensor]:
        """Return its logits and the maps that its ``taps`` collect, ``[N, C, H, W]`` each."""

        def look() -> list[Tensor]:
            logits, maps = taps.run(images)
            return [logits, *maps]

        # Maps of several stages are large, and no other training needs them.
        return look() if len(taps.names) > 1 else self._once(images, ["logits", *taps.names], look)

    def _once(self, images: Tensor, names: Sequence[str], look: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return the outputs of ``look``, from the memory if another training has stored them."""
        # A GPU runs the network faster than it could read from the disk.
        known = None if images.is_cuda else self.memory
        return look() if known is None else known.get(images, names, look)


def packaged_teacher(model: str, data: DataSet) -> Path | None:
    """Return the weights of the packaged teacher, if it fits.

    Args:
        model: Requested architecture; if empty, any.
        data: The packaged teacher has Fashion-MNIST's classes and images.
    """
    path = Path(str(resources.files("imf_deploy") / "assets" / PACKAGED))
    if not path.is_file():
        return None
    record = load_artifact(path, TeacherFile)
    asked = not model or resolve(model) == resolve(record.model["name"])
    own = data.preprocess
    return path if asked and replace(record.preprocess, mean=own.mean, std=own.std) == own else None


def load_teacher(
    path: Path,
    model: str,
    data: DataSet,
    device: torch.device,
    reading: ReadingSettings = FIND_OUT,
) -> Teacher:
    """Load a teacher's weights, and measure its accuracy on the test split.

    Args:
        path: A file of weights in any usual form; see :func:`imf_deploy.models.load_checkpoint`. If there is
            a sidecar, the architecture and the classes that it records must match, and the teacher sees
            images as it records them.
        model: Name of the architecture; if empty, the sidecar's.
        data: The data that it will teach on.
        device: Device of the teacher.
        reading: Settings that the file does not contain. For weights without a sidecar, settings and strides
            that are not given are tried on validation images, and those that are clearly better are used.

    Raises:
        UsageError: no file could reproduce the network's answers, or the weights have no values.
        ImfDeployError: the weights are damaged, or belong to another architecture or other classes.
    """
    existing_file(path, "weights")
    spec, history, own = _spec_of(path, model, data)
    if reading.teacher_options is not None:
        spec = replace(spec, settings=reading.teacher_options)
    if reading.teacher_stem_strides is not None:
        spec = replace(spec, stem_strides=reading.teacher_stem_strides)
    module = build_teacher(spec, path, reading.weights_key, device, say)
    check_behaviour(module, spec.image_size, spec.name)
    adapter = InputAdapter.between(data.preprocess, own) if own else None
    if adapter:
        adapter.attach(module)
    if own is None:
        spec, module = best_built(spec, module, path, data, device, reading)
    accuracy = accuracy_of(module, data.test, data.preprocess, device) if len(data.test) else None
    return Teacher(
        module,
        spec,
        sha256_file(path),
        accuracy,
        history,
        key=reading.weights_key,
        recorded=own is not None,
        adapter=adapter,
    )


def load_published(given: GivenTeacher, data: DataSet, device: torch.device) -> Teacher:
    """Load a teacher's published weights, which see images as they were trained on them.

    Args:
        given: The names of the architecture and of the weights.
        data: The data that it will teach on.
        device: Device of the teacher.

    Raises:
        UsageError: there are no such weights, or no file could reproduce the network's answers.
        OtherClassesError: the weights were trained for another number of classes.
        ImfDeployError: the weights cannot be downloaded.
    """
    spec, adapter = teacher_spec(given, data), None
    if prepared := preparation_of(given.teacher_weights, spec.name):
        own = replace(
            data.preprocess,
            size=_size_of(spec, prepared.size, data),
            mean=prepared.mean,
            std=prepared.std,
            color="RGB",
            interpolation=prepared.interpolation,
        )
        adapter = InputAdapter.between(data.preprocess, own)
        strides = given.teacher_stem_strides or ()  # the library's own, at any size
        at_own = ModelSpec.for_images(spec.name, spec.num_classes, own.shape, strides)
        spec = replace(at_own, settings=spec.settings)
    start = read_pretrained(given.teacher_weights, spec, data.preprocess.labels)
    if start.new:
        raise refusal(given, data) or OtherClassesError(start.notes[-1], "Fine-tune it first")
    for note in start.notes:
        say(note)
    module = build_started(spec, start).to(device).eval().requires_grad_(False)
    if adapter:
        adapter.attach(module)
    accuracy = accuracy_of(module, data.test, data.preprocess, device) if len(data.test) else None
    return Teacher(module, spec, start.origin.sha256, accuracy, adapter=adapter, origin=start.origin)


def _spec_of(path: Path, model: str, data: DataSet) -> tuple[ModelSpec, History, Preprocess | None]:
    """Return a teacher's architecture, its history, and its preprocessing, if a sidecar states it."""
    size, classes = data.preprocess.shape, data.preprocess.num_classes
    if not sidecar_path(path).is_file():
        return ModelSpec.for_images(model or default_teacher(size), classes, size), [], None
    record = load_artifact(path)
    made_for = ModelSpec.from_dict(record.model, (model,), "`teacher`")
    if model and resolve(model) != resolve(made_for.name):
        raise ImfDeployError(
            f"{path} holds a {made_for.name}, not a {model}", f"Use `teacher` {made_for.name}"
        )
    made_for.check_preprocess(record.preprocess, str(path))
    own = record.preprocess
    if own.labels != data.preprocess.labels:
        counts = f"{own.num_classes} for {classes}" if own.num_classes != classes else "other names or order"
        raise ImfDeployError(
            f"the teacher {path} was trained with other classes than {data.name} has ({counts})",
            "Train one for this data: imf-deploy train-teacher",
        )
    if own.preparation is None:
        raise ImfDeployError(
            f"the record of the teacher {path} does not state how images become its input",
            "Train one for this data: imf-deploy train-teacher",
        )
    own = replace(own, size=_size_of(made_for, own.size, data))
    made_for = replace(made_for, image_size=short(own.shape))
    # Another tool may have written epochs without their numbers.
    history = record.history if isinstance(record, TeacherFile | ProductFile | DistilledFile) else []
    return made_for, history if all("epoch" in epoch for epoch in history) else [], own


def _size_of(spec: ModelSpec, size: Size, data: DataSet) -> Size:
    """Return the size at which a teacher sees the images of the data, given the one it was trained with.

    Images that are not in the proportions of the teacher's own are scaled to the same shorter side, unless
    the network is built for one size; it then sees them distorted.
    """
    height, width = sides(data.preprocess.size)
    own_height, own_width = sides(size)
    alike = height * own_width == width * own_height
    architecture = resolve(spec.name)
    any_size = architecture.library in ("torchvision", "timm", "cifar") and not fixed_size(architecture)
    return undistorted(size, data.preprocess.size) if any_size and not alike else size


class TeacherNeededError(UsageError):
    """No teacher was given, and the packaged one does not fit the data."""


def find_teacher(given: GivenTeacher, data: DataSet, device: str = "auto") -> Teacher:
    """Load the given teacher, or the packaged one if it fits the data.

    Args:
        given: Its weights and architecture; see :func:`load_teacher`.
        data: The data that it will teach on.
        device: Device of the teacher, such as ``cuda:1``; ``auto`` uses CUDA if available.

    Raises:
        TeacherNeededError: there is neither.
        OtherClassesError: the teacher was trained for other classes than those of the data.
        UsageError: settings for reading a file are given, but no file.
        ImfDeployError: the weights do not fit.
    """
    check_reading(given)
    on = choose_device(device)
    if is_published(given.teacher_weights):
        return load_published(given, data, on)
    path = Path(given.teacher_weights) if given.teacher_weights else packaged_teacher(given.teacher, data)
    if path is None:
        raise TeacherNeededError(
            f"no teacher is given, and the packaged one does not fit {data.name}",
            "Train one with imf-deploy train-teacher, then use `teacher_weights`",
        )
    try:
        return load_teacher(path, given.teacher, data, on, given)
    except ImfDeployError as error:
        if given.teacher_weights and (other := refusal(given, data)):
            raise other from error
        raise
