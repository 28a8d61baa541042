"""Stage: train a teacher, load a given one, or use the packaged one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import differences, existing_file, fingerprint, sha256_file
from imf_deploy.method.branches import Taps
from imf_deploy.models import (
    ModelSpec,
    check_behaviour,
    only_logits,
    resolve,
)
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.records.files import DistilledFile, ProductFile, TeacherFile, sidecar_path
from imf_deploy.settings import (
    GivenTeacher,
    MonitoringSettings,
    ReadingSettings,
    TeacherSettings,
)
from imf_deploy.teacher_memory.memory import TeacherMemory
from imf_deploy.teaching.fine_tuning import (
    default_teacher,
    refusal,
    starting_weights,
    teacher_spec,
)
from imf_deploy.teaching.reading import FIND_OUT, best_built, build_teacher
from imf_deploy.training.checkpoint import History
from imf_deploy.training.device import choose_device
from imf_deploy.training.supervised import train_classifier

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
    start = starting_weights(config, data)
    for note in start.notes if start else ():
        say(note)
    # The hash of the weights decides the result, not their place.
    own = {field.name: getattr(config, field.name) for field in fields(TeacherSettings)}
    train = TeacherSettings(**own | {"teacher_weights": ""})
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
        recorded: Whether a record states that it was trained with the preprocessing and classes of the data.
    """

    module: nn.Module
    spec: ModelSpec
    sha256: str
    accuracy: float | None
    history: History = field(default_factory=list)
    memory: TeacherMemory | None = None
    key: str = ""
    recorded: bool = False

    @property
    def identity(self) -> str:
        """Its identity: a file may contain several sets of weights, for several settings."""
        usual = ModelSpec.for_images(self.spec.name, self.spec.num_classes, self.spec.image_size)
        if not self.key and self.spec == usual:
            return self.sha256
        return fingerprint([self.sha256, self.key, self.spec.to_dict()])

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
        data: The packaged teacher has Fashion-MNIST's classes and preprocessing.
    """
    path = Path(str(resources.files("imf_deploy") / "assets" / PACKAGED))
    if not path.is_file():
        return None
    record = load_artifact(path, TeacherFile)
    asked = not model or resolve(model) == resolve(record.model["name"])
    return path if asked and record.preprocess == data.preprocess else None


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
            a sidecar, the architecture and the preprocessing that it records must match.
        model: Name of the architecture; if empty, the sidecar's.
        data: The data that it will teach on.
        device: Device of the teacher.
        reading: Settings that the file does not contain. For weights without a sidecar, settings and strides
            that are not given are tried on validation images, and those that are clearly better are used.

    Raises:
        UsageError: no file could reproduce the network's answers, or the weights have no values.
        ImfDeployError: the weights are damaged, or belong to another architecture, other input or other
            classes.
    """
    existing_file(path, "weights")
    spec, history, recorded = _spec_of(path, model, data)
    if reading.teacher_options is not None:
        spec = replace(spec, settings=reading.teacher_options)
    if reading.teacher_stem_strides is not None:
        spec = replace(spec, stem_strides=reading.teacher_stem_strides)
    module = build_teacher(spec, path, reading.weights_key, device, say)
    check_behaviour(module, spec.image_size, spec.name)
    if not recorded:
        spec, module = best_built(spec, module, path, data, device, reading)
    accuracy = accuracy_of(module, data.test, data.preprocess, device) if len(data.test) else None
    return Teacher(
        module, spec, sha256_file(path), accuracy, history, key=reading.weights_key, recorded=recorded
    )


def _spec_of(path: Path, model: str, data: DataSet) -> tuple[ModelSpec, History, bool]:
    """Return a teacher's architecture, its history, and whether a sidecar names them."""
    size, classes = data.preprocess.shape, data.preprocess.num_classes
    if not sidecar_path(path).is_file():
        return ModelSpec.for_images(model or default_teacher(data), classes, size), [], False
    record = load_artifact(path)
    made_for = ModelSpec.from_dict(record.model, (model,), "`teacher`")
    if model and resolve(model) != resolve(made_for.name):
        raise ImfDeployError(
            f"{path} holds a {made_for.name}, not a {model}", f"Use `teacher` {made_for.name}"
        )
    made_for.check_preprocess(record.preprocess, str(path))
    if record.preprocess != data.preprocess:
        raise ImfDeployError(
            f"the teacher {path} was trained with other preprocessing or classes than {data.name} has "
            f"({_difference(record.preprocess, data.preprocess)})",
            "Train one for this data: imf-deploy train-teacher",
        )
    # Another tool may have written epochs without their numbers.
    history = record.history if isinstance(record, TeacherFile | ProductFile | DistilledFile) else []
    return made_for, history if all("epoch" in epoch for epoch in history) else [], True


def _difference(known: Preprocess, wanted: Preprocess) -> str:
    if known.num_classes != wanted.num_classes:
        return f"{known.num_classes} classes for {wanted.num_classes}"
    return "other " + ", ".join(differences(asdict(known), asdict(wanted)))


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
    reading = {name: getattr(given, name) for name in vars(FIND_OUT)}
    if not given.teacher_weights and reading != vars(FIND_OUT):
        raise UsageError(
            "`weights_key`, `teacher_options` and `teacher_stem_strides` are for a given teacher",
            "Add `teacher_weights` FILE",
        )
    path = Path(given.teacher_weights) if given.teacher_weights else packaged_teacher(given.teacher, data)
    if path is None:
        raise TeacherNeededError(
            f"no teacher is given, and the packaged one does not fit {data.name}",
            "Train one with imf-deploy train-teacher, then use `teacher_weights`",
        )
    try:
        return load_teacher(path, given.teacher, data, choose_device(device), given)
    except ImfDeployError as error:
        if given.teacher_weights and (other := refusal(given, data)):
            raise other from error
        raise
