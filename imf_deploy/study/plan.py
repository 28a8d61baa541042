"""Which trainings a study consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from imf_deploy import defaults
from imf_deploy.data import DataSet
from imf_deploy.errors import UsageError
from imf_deploy.method.names import PLAIN
from imf_deploy.models import build_deployable, check_student
from imf_deploy.models.names import file_stem
from imf_deploy.study.methods import ABLATIONS, METHODS, Settings, candidates, grid
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run, spec_of
from imf_deploy.training.config import TrainConfig


@dataclass(frozen=True)
class Thin:
    """A thinner student, the rival of ``imf@k``.

    Attributes:
        student: Name of the architecture.
        epochs: Passes over the training split; more than the whole student's, so that its training
            takes as long.
    """

    student: str
    epochs: int


@dataclass(frozen=True)
class StudyConfig:
    """What is compared, and with which budget.

    Attributes:
        students: Names of architectures.
        methods: Keys of :data:`~imf_deploy.study.methods.METHODS`.
        seeds: Of weights, order of data and augmentation; the same for every method.
        tries: How many settings of each method are tried on validation images.
        tuning_seed: Seed of these trials.
        ablation_seeds: How many of the seeds each ablation is trained with; 0 for none.
        grid: Whether to train IMF with every alpha and beta of the paper's grid, at the tuning seed.
        thin: Thinner students, trained by KD.
        taps: Modules of the one student that end a block; empty finds them. Of IMF alone.
        train: What all trainings share.
    """

    students: tuple[str, ...] = (defaults.STUDENT,)
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tries: int = 3
    tuning_seed: int = 1000
    ablation_seeds: int = 0
    grid: bool = False
    thin: tuple[Thin, ...] = ()
    taps: tuple[str, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)

    def check(self) -> None:
        """Refuse what no study can use.

        Raises:
            UsageError: naming the option.
        """
        self.train.check()
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise UsageError(f"--methods has no '{', '.join(unknown)}'", f"Use {','.join(METHODS)}")
        named = [*self.students, *(thin.student for thin in self.thin)]
        most = max(len(method.candidates) for method in METHODS.values())
        for option, fine, hint in (
            ("--students", self.students, "Name one"),
            # Files, tables and the workers' checkpoints go by the name.
            ("--students with --thin", _differ([file_stem(name) for name in named]), "Name each once"),
            ("--methods", self.methods and _differ(self.methods), f"Use {','.join(METHODS)}, each once"),
            (
                "--seeds",
                self.seeds and _differ(self.seeds) and min(self.seeds) >= 0,
                "Give such as 0,1,2,3,4, each once",
            ),
            ("--tries", 1 <= self.tries <= most, f"Give 1 to {most}"),
            (
                "--tuning-seed",
                self.tuning_seed >= 0 and self.tuning_seed not in self.seeds,
                "Give one of at least 0 that is none of --seeds",
            ),
            (
                "--ablation-seeds",
                0 <= self.ablation_seeds <= len(self.seeds),
                "Give 0 to the number of --seeds",
            ),
            ("--ablation-seeds", not self.varied or "imf" in self.methods, "Add imf to --methods"),
            (
                "--thin",
                not self.thin or "kd" in self.methods,
                "Thin students learn by KD: add kd to --methods",
            ),
            ("--student-taps", not self.taps or len(self.students) == 1, "Give one of --students with them"),
            ("--student-taps", not self.taps or "imf" in self.methods, "Add imf to --methods"),
            ("--thin", all(thin.epochs >= 1 for thin in self.thin), "Give each 1 epoch or more"),
        ):
            if not fine:
                raise UsageError(f"{option} cannot be used", hint)

    def check_data(self, data: DataSet) -> None:
        """Refuse students that there are not, and choices without images to choose by.

        Raises:
            UsageError: before anything is trained.
        """
        for name in self.students:
            spec = spec_of(name, data)
            if "imf" in self.methods:
                check_student(replace(spec, taps=self.taps))
            else:
                build_deployable(spec)
        for thin in self.thin:
            build_deployable(spec_of(thin.student, data))
        if not len(data.validation) and (self.tries > 1 or self.varied):
            raise UsageError(
                "settings and variants are compared on validation images, and there are none",
                "Raise --val-fraction, or give --tries 1 and neither --ablation-seeds nor --grid",
            )

    def candidates(self, method: str) -> list[Settings]:
        """Return a method's settings to choose from, the first :attr:`tries`."""
        own = candidates(method, self.train.lr)[: self.tries]
        return (
            [{**settings, "taps": self.taps} for settings in own] if self.taps and method == "imf" else [*own]
        )

    @property
    def varied(self) -> bool:
        """Whether variants of IMF are trained."""
        return self.grid or self.ablation_seeds > 0


def _differ(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)


Chosen = dict[tuple[str, str], Settings]
"""Settings by student and method."""


def trials(config: StudyConfig) -> list[Run]:
    """Return the trainings that choose each method's settings; none where there is nothing to choose."""
    if config.tries < 2:
        return []
    base = replace(config.train, seed=config.tuning_seed)
    return [
        Run.of(student, method, settings, base)
        for student in config.students
        for method in config.methods
        for settings in config.candidates(method)
    ]


def choose(config: StudyConfig, runs: Sequence[Run], trained: Sequence[Trained]) -> Chosen:
    """Choose each method's settings by the student's validation accuracy; of equals, the first.

    A trial that diverged has no accuracy, and loses.

    Args:
        config: The study.
        runs: What :func:`trials` returned.
        trained: What came of them, in order.
    """
    chosen: Chosen = {
        (student, method): config.candidates(method)[0]
        for student in config.students
        for method in config.methods
    }
    best: dict[tuple[str, str], float] = {}
    for run, result in zip(runs, trained, strict=True):
        key, accuracy = (run.student, run.method), result.validation.get(PLAIN, -1.0)
        if accuracy > best.get(key, -1.0):
            best[key], chosen[key] = accuracy, run.settings
    return chosen


def main_runs(config: StudyConfig, chosen: Chosen) -> list[Run]:
    """Return the trainings whose test accuracy is told: each method and seed, and the thin students.

    IMF's come first, since the teacher tells them the most, and the others of their seeds find that.
    """
    methods = sorted(config.methods, key=lambda method: method != "imf")
    runs = [
        Run.of(student, method, chosen[student, method], replace(config.train, seed=seed), tested=True)
        for student in config.students
        for method in methods
        for seed in config.seeds
    ]
    for thin in config.thin:
        settings = chosen[config.students[0], "kd"]
        for seed in config.seeds:
            base = replace(config.train, seed=seed, epochs=thin.epochs)
            runs.append(Run.of(thin.student, "kd", settings, base, tested=True))
    return runs


def varied_runs(config: StudyConfig, chosen: Chosen) -> list[Run]:
    """Return the trainings of IMF's variants, which leave the test split alone."""
    runs = []
    for student in config.students:
        for seed in config.seeds[: config.ablation_seeds]:
            base = replace(config.train, seed=seed)
            for name, change in ABLATIONS.items():
                runs.append(Run.of(student, "imf", {**chosen[student, "imf"], **change}, base, name))
        if config.grid:
            base = replace(config.train, seed=config.tuning_seed)
            runs.append(Run.of(student, "imf", chosen[student, "imf"], base))  # what cells are held against
            for name, change in grid().items():
                runs.append(Run.of(student, "imf", {**chosen[student, "imf"], **change}, base, name))
    return runs
