"""The outcome of a study, and its page: tables, comparisons and settings."""

from dataclasses import asdict, dataclass
from typing import Any

from imf_deploy.files import finite
from imf_deploy.method.names import PLAIN
from imf_deploy.settings import StudySettings
from imf_deploy.show.markdown import code, text
from imf_deploy.study import tables
from imf_deploy.study.goals import answers
from imf_deploy.study.methods import METHODS, Settings
from imf_deploy.study.plan import Chosen, trials
from imf_deploy.study.results import Network, Trained
from imf_deploy.study.selection import title

SCHEMA = 1


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Attributes:
        config: Settings of the study.
        chosen: Chosen settings by student and method.
        tried: The trainings that chose them; their test accuracies are empty.
        trained: The trainings that are compared, and IMF's variants.
        networks: Costs of each network.
        about: Data, teacher, versions and the command.
    """

    config: StudySettings
    chosen: Chosen
    tried: list[Trained]
    trained: list[Trained]
    networks: list[Network]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        chosen = [
            {"student": student, "method": method, "settings": dict(settings)}
            for (student, method), settings in self.chosen.items()
        ]
        content: dict[str, Any] = finite(
            {
                "schema": SCHEMA,
                "about": self.about,
                "config": asdict(self.config),
                "chosen": chosen,
                "tried": [asdict(each) for each in self.tried],
                "trained": [asdict(each) for each in self.trained],
                "networks": [asdict(each) for each in self.networks],
            }
        )
        return content


def page(study: Study) -> str:
    """Return the page as Markdown, with the command that reproduces it."""
    about, config = study.about, study.config
    images = about["images"]
    thinner = [thin.student for thin in config.thin]
    parts = [
        "# Study: methods of training a student",
        *([f"    {about['command']}"] if about["command"] else []),
        f"Data {code(about['data'])}: {images['train']} training, {images['validation']} validation and "
        f"{images['test']} test images. Teacher {code(about['teacher'])}: {about['teacher_accuracy']:.2%} "
        f"accuracy on the test images. Seeds {', '.join(map(str, config.seeds))}; {config.epochs} epochs, "
        f"batches of {config.batch_size}. Every method starts from the same weights and sees the same "
        "images in the same order with the same augmentation.",
    ]
    for student in config.students:
        parts += [f"## {code(student)}", "### Methods", tables.methods_table(study.trained, student)]
        parts += ["### Networks", tables.family_table(study.trained, study.networks, student, thinner)]
        results = answers(study.trained, study.networks, student, thinner, config)
        parts += ["### Comparisons", "\n".join(f"- {text(str(answer))}" for answer in results)]
        if config.varied:
            parts += ["### Ablations of IMF", tables.ablation_table(study.trained, student)]
        if config.variant:
            parts.append(f"IMF is trained as a variant: {text(', '.join(config.variant))} (`--variant`).")
        if config.student_taps:
            parts.append(
                f"IMF's blocks end with {', '.join(map(code, config.student_taps))} (`--student-taps`)."
            )
        parts += ["### Settings", _settings(study, student)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _settings(study: Study, student: str) -> str:
    """Return the settings that were tried for each method, and those that were chosen."""
    config = study.config
    sources = "; ".join(f"{title(method)}: {METHODS[method].source}" for method in config.methods)
    if config.tries < 2:
        lines = [f"- {title(m)}: {_listed(study.chosen[student, m])}" for m in config.methods]
        return "\n\n".join(
            ("The first settings of each method were used; no others were tried:", "\n".join(lines), sources)
        )
    rows = ["| Method | Settings | Validation % |", "| --- | --- | ---: |"]
    for run, result in zip(trials(config), study.tried, strict=True):
        if run.student == student:
            accuracy = result.validation.get(PLAIN)
            won = "**" if run.settings == study.chosen[student, run.method] else ""
            percent = "diverged" if accuracy is None else f"{100 * accuracy:.2f}"
            rows.append(f"| {title(run.method)} | {won}{_listed(run.settings)}{won} | {percent} |")
    how = (
        f"All settings were tried with seed {config.tuning_seed}. The student's accuracy on "
        f"{study.about['images']['validation']} validation images decided (bold)."
    )
    return "\n\n".join((how, "\n".join(rows), sources))


_NAMED = ("student_taps", "student_weights")
"""Settings that are the same for all tries, and long."""


def _listed(settings: Settings) -> str:
    values = {name: value for name, value in settings.items() if name not in _NAMED}
    listed = [
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}" for name, value in values.items()
    ]
    return ", ".join(listed) or "no settings of its own"
