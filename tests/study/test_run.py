"""One training of a study: run once, resumed after an interrupt, tested only if it is reported."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, Split
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.errors import DivergedError, ImfDeployError, UsageError
from imf_deploy.method.products import load_product
from imf_deploy.models import ModelSpec, build_model, read_weights, save_weights
from imf_deploy.records.files import DistilledFile, ProductFile
from imf_deploy.settings import TrainingSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run, record_path, train, weights_path
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training import loop

BASE = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cpu")
SETTINGS = {
    "ce": {},
    "kd": {"beta": 20.0, "temperature": 4.0},
    "fitnet": {"beta": 20.0, "temperature": 4.0, "hint": 2.0},
    "dkd": {"target": 1.0, "others": 8.0, "temperature": 4.0},
    "crd": {"contrast": 0.8, "kd": 1.0, "temperature": 4.0},
    "reviewkd": {"review": 5.0},
    "imf": {"alpha": 2.0, "beta": 20.0, "temperature": 4.0},
}


def run_of(method: str, base: TrainingSettings = BASE, tested: bool = False, **change: float) -> Run:
    return Run.of("resnet8", method, {**SETTINGS[method], **change}, base, tested=tested)


@dataclass
class Place:
    """Data, teacher and a folder of trainings; how many networks were trained."""

    data: DataSet
    teacher: Teacher
    folder: Path
    fits: int = 0

    def train(self, run: Run, data: DataSet | None = None) -> Trained:
        return train(run, data or self.data, self.teacher, self.folder)

    def record(self, run: Run) -> Path:
        return record_path(run, self.data, self.teacher, self.folder)

    def weights(self, run: Run) -> dict[str, Tensor]:
        return read_weights(weights_path(self.record(run)))


@pytest.fixture
def place(data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(data, teacher, tmp_path / "runs")
    real = loop.fit

    def fit(*arguments: Any, **options: Any) -> Any:
        made.fits += 1
        return real(*arguments, **options)

    monkeypatch.setattr("imf_deploy.study.run.fit", fit)
    monkeypatch.setattr("imf_deploy.distillation.distill.fit", fit)
    return made


@dataclass(frozen=True, eq=False)
class Sealed:
    """Pictures that nobody may look at."""

    workers: int = 0

    @property
    def labels(self) -> Tensor:
        raise AssertionError("the test split was touched")

    def fetch(self, *_: object) -> Tensor:
        raise AssertionError("the test split was touched")


def sealed(data: DataSet) -> DataSet:
    return replace(data, test=Split(Sealed(), data.test.positions))


@pytest.mark.parametrize("method", list(SETTINGS))
def test_a_training_is_done_once_and_tested_when_it_is_told_of(place: Place, method: str) -> None:
    run = run_of(method)
    first = place.train(run, sealed(place.data))
    assert place.fits == 1
    assert (first.student, first.method, first.variant, first.seed, first.epochs) == (
        ("resnet8", method, "", 0, 1)
    )
    products = ["plain", "imf@1", "imf@2", "imf@3"] if method == "imf" else ["plain"]
    assert list(first.validation) == products
    assert all(0 <= accuracy <= 1 for accuracy in first.validation.values())
    assert first.test == {}
    assert first.cpu_seconds
    assert first.cpu_seconds > 0
    assert not list(place.folder.glob("*.checkpoint"))
    before = place.record(run).read_bytes()
    assert place.train(run, sealed(place.data)) == first
    assert place.record(run).read_bytes() == before

    tested = place.train(replace(run, tested=True))
    assert place.fits == 1
    assert list(tested.test) == products
    assert replace(tested, test={}) == first
    assert place.train(replace(run, tested=True), sealed(place.data)) == tested
    assert place.train(run) == first  # what only chooses is told of no test
    assert place.fits == 1


def test_accuracies_are_those_of_what_is_deployed(place: Place, tmp_path: Path) -> None:
    data, cpu = place.data, torch.device("cpu")
    found = {method: place.train(run_of(method, tested=True)) for method in ("kd", "imf")}
    rival = load_product(weights_path(place.record(run_of("kd")))).module
    for split, told in ((data.validation, found["kd"].validation), (data.test, found["kd"].test)):
        assert told == {"plain": accuracy_of(rival, split, data.preprocess, cpu)}
    distilled = load_distilled(load_artifact(weights_path(place.record(run_of("imf")))))
    made = strip(distilled, ["plain", "imf@1", "imf@3"], tmp_path / "products")
    for artifact in made:
        module = load_product(artifact.path).module
        expected = accuracy_of(module, data.test, data.preprocess, cpu)
        assert found["imf"].test[artifact.product] == expected


@pytest.mark.parametrize("method", ["ce", "imf"])
def test_what_decides_the_result_makes_another_record(place: Place, method: str) -> None:
    run = run_of(method)
    others = [
        run_of(method, label_smoothing=0.1),
        run_of(method, replace(BASE, seed=1)),
        run_of(method, replace(BASE, epochs=2)),
        replace(run, student="resnet14"),
        *([run_of("imf", beta=10.0), run_of("imf", refit=False)] if method == "imf" else [run_of("kd")]),
    ]
    assert len({place.record(each) for each in (run, *others)}) == 1 + len(others)
    # Names of variants and the test decide nothing.
    assert place.record(replace(run, variant="alpha 2", tested=True)) == place.record(run)
    other_data = replace(place.data, fingerprint="other")
    assert record_path(run, other_data, place.teacher, place.folder) != place.record(run)
    other_teacher = replace(place.teacher, sha256="other")
    same = record_path(run, place.data, other_teacher, place.folder) == place.record(run)
    assert same == (method == "ce")  # which has no teacher
    place.train(run)
    place.train(others[0])
    assert place.fits == 2
    a, b = place.weights(run), place.weights(others[0])
    assert any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["fitnet", "crd", "imf"])
def test_a_training_that_was_cut_off_goes_on(
    place: Place, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(method, replace(BASE, epochs=2))
    whole = replace(place, folder=tmp_path / "whole")
    expected = whole.train(run)
    say = loop.say

    def stop(message: str) -> None:
        if "epoch 2 of 2" in message:
            raise KeyboardInterrupt
        say(message)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "say", stop)
        with pytest.raises(KeyboardInterrupt):
            place.train(run)
    checkpoint = weights_path(place.record(run)).with_suffix(".checkpoint")
    assert checkpoint.is_file()
    assert not place.record(run).exists()
    assert not any(module._forward_hooks for module in place.teacher.module.modules())
    found = place.train(run)
    assert not checkpoint.exists()
    assert found == replace(expected, cpu_seconds=None)
    ours, theirs = place.weights(run), whole.weights(run)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # Nor does a test that is asked for later know the time of the first part.
    assert place.train(replace(run, tested=True)).cpu_seconds is None


@pytest.mark.parametrize("method", ["kd", "imf"])
def test_weights_without_their_record_are_taken_and_their_time_is_not_known(
    place: Place, method: str
) -> None:
    run = run_of(method)
    first = place.train(run)
    place.record(run).unlink()
    assert place.train(run) == replace(first, cpu_seconds=None)
    assert place.fits == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: {},
        lambda record: {name: value for name, value in record.items() if name != "test"},
        lambda record: record | {"validation": None},
        lambda record: record | {"validation": {"plain": "0.9"}},
        lambda record: record | {"cpu_seconds": "1"},
        lambda record: record | {"settings": 3},
    ],
)
def test_a_damaged_record_is_named(
    place: Place, spoil: Callable[[dict[str, Any]], dict[str, Any]], teacher: Teacher
) -> None:
    run = run_of("ce", tested=True)
    fine = {"settings": {}, "validation": {"plain": 0.5}, "test": {"plain": 0.5}, "cpu_seconds": None}
    path = place.record(run)
    path.parent.mkdir()
    path.write_text(json.dumps(fine))
    assert place.train(run).test == {"plain": 0.5}
    path.write_text(json.dumps(spoil(fine)))
    with pytest.raises(ImfDeployError, match=r"result\.json is damaged. Remove it"):
        place.train(run)
    assert place.fits == 0


def test_half_a_record_is_named(place: Place) -> None:
    path = place.record(run_of("ce"))
    path.parent.mkdir()
    path.write_text('{"validation": {')
    with pytest.raises(ImfDeployError, match=r"result\.json is not valid JSON"):
        place.train(run_of("ce"))


@pytest.mark.parametrize("method", ["kd", "imf"])
def test_a_setting_out_of_range_is_the_users(method: str) -> None:
    with pytest.raises(UsageError, match=r"`lr` -1\.0 is out of range"):
        run_of(method, lr=-1.0)


@pytest.mark.parametrize("method", ["ce", "imf"])
def test_what_diverges_is_no_choice_and_no_result(place: Place, method: str) -> None:
    lost = place.train(run_of(method, lr=1e18))
    assert lost.validation == {} and lost.test == {} and lost.cpu_seconds is None
    assert place.train(run_of(method, lr=1e18)) == lost
    assert place.fits == 1
    assert json.loads(place.record(run_of(method, lr=1e18)).read_text())["diverged"]
    with pytest.raises(DivergedError, match=r"finite|became"):
        place.train(run_of(method, lr=1e18, tested=True))
    assert not list(place.folder.glob("*.safetensors")), "weights that are not finite"


def test_nobody_keeps_the_teachers_outputs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """IMF could where pictures are not changed, its rivals cannot, and their times are compared."""
    seen = []
    real = place.teacher.module.forward

    def forward(images: Tensor) -> Tensor:
        seen.append(len(images))
        logits: Tensor = real(images)
        return logits

    base = replace(BASE, augment="none", epochs=3)
    monkeypatch.setattr(place.teacher.module, "forward", forward)
    counts = {}
    for method in ("kd", "imf"):
        seen.clear()
        place.train(run_of(method, base))
        counts[method] = sum(size == BASE.batch_size for size in seen)
    assert counts["imf"] == counts["kd"] > 0


@pytest.mark.parametrize("method", ["ce", "fitnet", "imf"])
def test_every_method_starts_from_the_given_weights(place: Place, tmp_path: Path, method: str) -> None:
    torch.manual_seed(9)
    path = tmp_path / "start.safetensors"
    given = build_model(ModelSpec("resnet8", 5, 16)).state_dict()
    save_weights(path, given)
    base = replace(BASE, lr=1e-9)
    weights: dict[str, Any] = {"student_weights": str(path)}
    run = run_of(method, base, **weights)
    place.train(run)
    prefix = "student." if method == "imf" else ""
    name = next(name for name, tensor in given.items() if tensor.dim() == 4)
    assert torch.allclose(place.weights(run)[prefix + name], given[name], atol=1e-5)
    assert place.record(run) != place.record(run_of(method, base))
    record = load_artifact(weights_path(place.record(run)))
    assert isinstance(record, DistilledFile | ProductFile)
    assert record.starting_weights is not None
    assert record.starting_weights.new_head
