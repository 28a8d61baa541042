"""The trainings that a study consists of."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from imf_deploy.data import DataSet
from imf_deploy.errors import UsageError
from imf_deploy.method.names import PLAIN
from imf_deploy.models import build_deployable, check_student
from imf_deploy.models.names import file_stem
from imf_deploy.progress import say
from imf_deploy.settings import LossSettings, StudySettings, TrainingSettings
from imf_deploy.settings.starts import STUDY
from imf_deploy.study.methods import ABLATIONS, METHODS, Settings, candidates, grid
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run, read_start, spec_of
from imf_deploy.training.supervised import build_started


def check_study(config: StudySettings) -> None:
    """Reject settings that do not fit each other.

    Raises:
        UsageError: settings do not fit; the message names them.
    """
    named = [*config.students, *(thin.student for thin in config.thin)]
    seeds, methods = config.seeds, config.methods
    for name, fine, hint in (
        ("`students`", config.students, "Name one"),
        # Files, tables and the workers' checkpoints are identified by the name.
        ("`students` with `thin`", _differ([file_stem(name) for name in named]), "Name each once"),
        ("`methods`", methods and _differ(methods), f"Use {','.join(METHODS)}, each once"),
        ("`seeds`", seeds and _differ(seeds), "Give different seeds, such as 0,1,2,3,4"),
        ("`tuning_seed`", config.tuning_seed not in seeds, "Give a seed that is not among `seeds`"),
        (
            "`ablation_seeds`",
            config.ablation_seeds <= len(seeds),
            "Give a number from 0 to the number of `seeds`",
        ),
        ("`ablation_seeds`", not config.varied or "imf" in methods, "Add imf to `methods`"),
        ("`ablations`", not config.ablations or config.ablation_seeds, "Give `ablation_seeds` with them"),
        ("`ablations`", _differ(config.ablations), "Name each once"),
        (
            "`variant`",
            _differ([setting for variant in config.variant for setting in ABLATIONS[variant]]),
            "Name ablations that change different settings, each once",
        ),
        ("`variant`", not config.variant or "imf" in methods, "Add imf to `methods`"),
        ("`alpha`", config.alpha == LossSettings.alpha or "imf" in methods, "Add imf to `methods`"),
        ("`beta`", config.beta == LossSettings.beta or "imf" in methods, "Add imf to `methods`"),
        ("`thin`", not config.thin or "kd" in methods, "Thin students learn by KD: add kd to `methods`"),
        (
            "`student_taps`",
            not config.student_taps or len(config.students) == 1,
            "Give one of `students` with them",
        ),
        (
            "`student_weights`",
            not config.student_weights or len(config.students) == 1,
            "Give one of `students` with them",
        ),
        ("`student_taps`", not config.student_taps or "imf" in methods, "Add imf to `methods`"),
    ):
        if not fine:
            raise UsageError(f"{name} cannot be used", hint)


def check_data(config: StudySettings, data: DataSet) -> None:
    """Reject unknown students, and choices without validation images, before anything is trained.

    Raises:
        UsageError: a student or a setting cannot be used with the data.
    """
    for name in config.students:
        spec = spec_of(name, data)
        start = read_start(config.student_weights, spec, data.preprocess.labels)
        for note in start.notes if start else ():
            say(note)
        if "imf" in config.methods:
            check_student(replace(spec, taps=config.student_taps), start.load if start else None)
        else:
            build_started(spec, start)
    for thin in config.thin:
        build_deployable(spec_of(thin.student, data))
    if not len(data.validation) and (config.tries > 1 or config.varied):
        raise UsageError(
            "settings and variants are compared on validation images, and there are none",
            "Raise `val_fraction`, or give `tries` 1 and neither `ablation_seeds` nor `grid`",
        )


def tried(config: StudySettings, method: str) -> list[Settings]:
    """Return a method's settings to choose from, the first :attr:`StudySettings.tries`.

    There are fewer for a variant of IMF that fixes what one of them varies.
    """
    named: dict[str, Any] = {}
    if method == "imf":
        named |= {name: value for each in config.variant for name, value in ABLATIONS[each].items()}
        if config.student_taps:
            named["student_taps"] = config.student_taps
    if config.student_weights:
        named["student_weights"] = config.student_weights
    own = [{**settings, **named} for settings in candidates(method, config)[: config.tries]]
    return [settings for place, settings in enumerate(own) if settings not in own[:place]]


def _differ(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)


Chosen = dict[tuple[str, str], Settings]
"""Settings by student and method."""


def trials(config: StudySettings) -> list[Run]:
    """Return the trainings that choose each method's settings; empty if there is nothing to choose."""
    if config.tries < 2:
        return []
    base = replace(config.training, seed=config.tuning_seed)
    return [
        Run.of(student, method, settings, base)
        for student in config.students
        for method in config.methods
        for settings in tried(config, method)
    ]


def choose(config: StudySettings, runs: Sequence[Run], trained: Sequence[Trained]) -> Chosen:
    """Choose each method's settings by the student's validation accuracy; of equal ones, the first.

    A trial that diverged has no accuracy and is never chosen.

    Args:
        config: Settings of the study.
        runs: The trainings of :func:`trials`.
        trained: Their results, in the same order.
    """
    chosen: Chosen = {
        (student, method): tried(config, method)[0]
        for student in config.students
        for method in config.methods
    }
    best: dict[tuple[str, str], float] = {}
    for run, result in zip(runs, trained, strict=True):
        key, accuracy = (run.student, run.method), result.validation.get(PLAIN, -1.0)
        if accuracy > best.get(key, -1.0):
            best[key], chosen[key] = accuracy, run.settings
    return chosen


def main_runs(config: StudySettings, chosen: Chosen) -> list[Run]:
    """Return the trainings whose test accuracy is reported: each method and seed, and the thin students.

    IMF's come first: they cache most of the teacher's outputs, which others with the same seed reuse.
    """
    methods = sorted(config.methods, key=lambda method: method != "imf")
    runs = [
        Run.of(student, method, chosen[student, method], replace(config.training, seed=seed), tested=True)
        for student in config.students
        for method in methods
        for seed in config.seeds
    ]
    for thin in config.thin:
        first = chosen[config.students[0], "kd"]
        settings = {name: value for name, value in first.items() if name != "student_weights"}
        if config.student_weights:  # chosen for trained weights, and these start fresh
            settings["lr"] = settings.get("lr", config.lr) * TrainingSettings.lr / STUDY.defaults["lr"]
        for seed in config.seeds:
            base = replace(config.training, seed=seed, epochs=thin.epochs or config.epochs)
            runs.append(Run.of(thin.student, "kd", settings, base, tested=True))
    return runs


def varied_runs(config: StudySettings, chosen: Chosen) -> list[Run]:
    """Return the trainings of IMF's variants, which leave the test split alone."""
    runs = []
    for student in config.students:
        for seed in config.seeds[: config.ablation_seeds]:
            base = replace(config.training, seed=seed)
            for name in config.ablations or ABLATIONS:
                change = ABLATIONS[name]
                runs.append(Run.of(student, "imf", {**chosen[student, "imf"], **change}, base, name))
        if config.grid:
            base = replace(config.training, seed=config.tuning_seed)
            runs.append(
                Run.of(student, "imf", chosen[student, "imf"], base)
            )  # the reference of the grid's cells
            for name, change in grid().items():
                runs.append(Run.of(student, "imf", {**chosen[student, "imf"], **change}, base, name))
    return runs
