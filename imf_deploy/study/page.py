"""``study.md``: what a study compared, and what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imf_deploy.report.markdown import code, text
from imf_deploy.study import tables
from imf_deploy.study.goals import goals
from imf_deploy.study.methods import METHODS
from imf_deploy.study.selection import title

if TYPE_CHECKING:
    from imf_deploy.study.stage import Study


def page(study: Study) -> str:
    """Return the page as Markdown, with the command that makes it again."""
    about, config = study.about, study.config
    images = about["images"]
    thinner = [thin.student for thin in config.thin]
    parts = [
        "# Study: how a student is trained best",
        f"    {about['command']}",
        f"Data {code(about['data'])}: {images['train']} training, {images['validation']} validation and "
        f"{images['test']} test images. Teacher {code(about['teacher'])}: {about['teacher_accuracy']:.2%} of "
        f"the test images. Seeds {', '.join(map(str, config.seeds))}; {config.train.epochs} epochs, "
        f"batches of {config.train.batch_size}. Every method sees the same images in the same order and "
        "changed in the same way, and starts from the same weights.",
    ]
    for student in config.students:
        parts += [f"## {code(student)}", "### Methods", tables.methods_table(study.trained, student)]
        parts += ["### Networks", tables.family_table(study.trained, study.networks, student, thinner)]
        aims = goals(study.trained, study.networks, student, thinner)
        parts += ["### Goals", "\n".join(f"- {text(str(goal))}" for goal in aims)]
        if config.varied:
            parts += ["### What each part earns", tables.ablation_table(study.trained, student)]
        parts += ["### Settings", _settings(study, student)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _settings(study: Study, student: str) -> str:
    """Return what was tried of each method, and what was chosen."""
    lines = []
    for method in study.config.methods:
        chosen = study.chosen[student, method]
        told = ", ".join(f"{name} {value:g}" for name, value in chosen.items()) or "nothing of its own"
        lines.append(f"- {title(method)} ({METHODS[method].source}): {told}")
    tries = study.config.tries
    how = (
        f"Chosen on the validation images from {tries} a method, with seed {study.config.tuning_seed}:"
        if tries > 1
        else "The first settings of each method, none chosen:"
    )
    return how + "\n\n" + "\n".join(lines)
