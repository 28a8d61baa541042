"""The stage ``study``, from the plan to the page."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imf_deploy.data import DataSet
from imf_deploy.errors import UsageError
from imf_deploy.files import write_json, write_text, write_yaml
from imf_deploy.method.names import PLAIN
from imf_deploy.progress import say, track
from imf_deploy.run.folder import SETTINGS
from imf_deploy.settings import StudySettings
from imf_deploy.settings.run import LatencySettings
from imf_deploy.study.costs import measure_networks
from imf_deploy.study.page import Study, page
from imf_deploy.study.pictures import draw_pictures
from imf_deploy.study.plan import check_data, check_study, choose, main_runs, trials, varied_runs
from imf_deploy.study.pool import Bench, Trainer, trainer
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run, finished, record_path, spec_of, weights_path
from imf_deploy.study.selection import in_order
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.teaching.weak_teacher import check_teacher


def study(
    config: StudySettings,
    bench: Bench,
    output: Path,
    command: str = "",
    jobs: int = 1,
    bench_seconds: float = LatencySettings.bench_seconds,
    options: Mapping[str, Any] | None = None,
) -> Study:
    """Train with every method, and write ``study.md``, ``study.json`` and the figures.

    Finished trainings are kept in ``OUTPUT/runs`` by a key of everything that decides them. The same study
    therefore resumes after an interrupt, and one with more seeds or methods reuses them.

    Args:
        config: Settings of the study.
        bench: Data and teacher.
        output: Folder to write to.
        command: The command that the page shows; empty if no command was used.
        jobs: Number of trainings at the same time.
        bench_seconds: Minimum measuring time of each network; 0 measures no latency.
        options: Options of the command, to be kept in ``config.yaml``.

    Raises:
        UsageError: a setting, a name or a path that cannot be used.
        ImfDeployError: a training failed; those that were finished are kept.
    """
    check_study(config)
    if jobs < 1:
        raise UsageError("`jobs` must be at least 1")
    if output.exists() and not output.is_dir():
        raise UsageError(f"`output` {output} is a file", "Give a folder")
    if bench.data.unlabelled:
        raise UsageError(
            "a study compares trainings on the same images, and cross-entropy cannot use `unlabelled` ones",
            "Leave it out, or use distill",
        )
    data, teacher = bench.open()
    check_data(config, data)
    if doubt := check_teacher(teacher, data, bench.teacher.accept_weak_teacher):
        say(doubt)
    if options is not None:
        write_yaml(output / SETTINGS, options)
    for note in data.notes:
        say(note)
    say(f"Teacher {teacher.spec.name}: {teacher.accuracy:.2%} of {len(data.test)} test images")

    def known(run: Run) -> Trained | None:
        return finished(run, data, teacher, bench.folder)

    with trainer(bench, jobs) as train:
        runs = trials(config)
        tried = _train_all("Choosing settings", runs, known, train)
        chosen = choose(config, runs, tried)
        final = main_runs(config, chosen)
        trained = _train_all("Comparing methods", final, known, train)
        varied = _train_all("Varying IMF", varied_runs(config, chosen), known, train)
    shutil.rmtree(bench.memory, ignore_errors=True)
    weights = _one_of_each(config, final, data, teacher, bench.folder)
    networks = measure_networks(weights, data, output, bench_seconds)
    about = {
        "command": command,
        "data": data.name,
        "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "teacher": teacher.spec.name,
        "teacher_accuracy": teacher.accuracy,
    }
    result = Study(config, chosen, tried, trained + varied, networks, about)
    write_json(output / "study.json", result.to_dict())
    thinner = [thin.student for thin in config.thin]
    for student in config.students:
        stem = spec_of(student, data).stem if len(config.students) > 1 else ""
        draw_pictures(output / "pictures" / stem, trained, networks, student, thinner)
    write_text(output / "study.md", page(result))
    return result


def _train_all(
    title: str, runs: Sequence[Run], known: Callable[[Run], Trained | None], train: Trainer
) -> list[Trained]:
    done = {index: earlier for index, run in enumerate(runs) if (earlier := known(run))}
    if done:
        say(f"{title}: {len(done)} of {len(runs)} are already finished")
    left = [index for index in range(len(runs)) if index not in done]
    with track(title, len(runs)) as advance:
        advance(len(done))
        for place, result in train([runs[index] for index in left]):
            index = left[place]
            done[index] = result
            accuracy = result.validation.get(PLAIN)
            lost = "" if runs[index].tested else ": diverged"
            outcome = lost if accuracy is None else f": validation {accuracy:.2%}"
            say(f"{title}, {len(done)} of {len(runs)}: {runs[index].label}{outcome}")
            advance(1)
    return [done[index] for index in range(len(runs))]


def _one_of_each(
    config: StudySettings, runs: Sequence[Run], data: DataSet, teacher: Teacher, folder: Path
) -> dict[str, Path]:
    """Return the weights of one training of each student: if possible IMF's, which has all products."""
    weights: dict[str, Path] = {}
    order = in_order({run.method for run in runs})[::-1]
    for run in sorted(runs, key=lambda run: order.index(run.method)):
        if run.train.seed == config.seeds[0]:
            weights.setdefault(run.student, weights_path(record_path(run, data, teacher, folder)))
    return weights
