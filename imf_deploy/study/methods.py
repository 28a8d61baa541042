"""The methods that a study compares, and their candidate settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from imf_deploy.settings import DistillSettings, LossSettings, TrainingSettings

Settings = Mapping[str, Any]
"""Values by name: of the loss, of the branches' design, and of the training."""


@dataclass(frozen=True)
class Method:
    """One way to train a student.

    Attributes:
        source: The paper; :data:`imf_deploy.study.selection.TITLES` has the method's name.
        candidates: Settings to choose from on validation images, the usual ones first. All other settings
            are the same for all methods.
    """

    source: str
    candidates: tuple[Settings, ...]


_KD = {"beta": LossSettings.beta, "temperature": LossSettings.temperature}
_IMF = {"alpha": LossSettings.alpha, **_KD}
_DKD = {"target": 1.0, "others": 8.0, "temperature": 4.0}

_SLOW = {"lr": 0.025}

METHODS: dict[str, Method] = {
    "ce": Method(
        "labels alone",
        ({"lr": 0.05}, _SLOW, {"lr": 0.1}, {"lr": 0.05, "label_smoothing": 0.1}),
    ),
    "kd": Method(
        "Hinton et al. 2015",
        (_KD, _KD | _SLOW, _KD | {"beta": 10.0}, _KD | {"beta": 40.0}),
    ),
    "fitnet": Method(
        "Romero et al. 2015",
        (
            _KD | {"hint": 2.0},
            _KD | {"hint": 2.0} | _SLOW,
            _KD | {"hint": 10.0},
            _KD | {"hint": 0.5},
        ),
    ),
    "dkd": Method(
        "Zhao et al. 2022",
        (_DKD, _DKD | _SLOW, _DKD | {"others": 2.0}, _DKD | {"others": 4.0}),
    ),
    "imf": Method(
        "Kim et al. 2023",
        (_IMF, _IMF | _SLOW, _IMF | {"alpha": 10.0}, _IMF | {"beta": 40.0}),
    ),
}
"""Methods by the name that ``methods`` takes."""

_TRAINING = {field.name for field in fields(TrainingSettings)}

ABLATIONS: dict[str, Settings] = {
    "no loss on branches": {"branches": 0.0},
    "no loss on prefixes": {"prefixes": 0.0},
    "no feature distance": {"alpha": 0.0},
    "IFDs without refining units": {"refining": 0},
    "feature distance alike at all depths": {"depth": 0.0},
    "feature distance raw": {"distance": "raw"},
    "feature distance L2": {"distance": "l2"},
    "feature distance per channel": {"distance": "channel"},
    "features stage by stage": {"match": "stages"},
    "one attentive weight a branch": {"attention": "branch"},
    "branches averaged": {"attention": "mean"},
    "temperature 2": {"temperature": 2.0},
    "temperature 8": {"temperature": 8.0},
    "branches warmed up": {"branch_warmup": 0.3},
    "heads not re-fitted": {"refit": False},
}
"""Ablations of IMF: variants by name, as changes of the chosen settings (ours)."""

GRID = (10.0, 20.0, 30.0, 40.0)
"""The paper's grid of alpha and beta."""


def grid() -> dict[str, Settings]:
    """Return all pairs of alpha and beta of the paper's grid, by name."""
    return {f"alpha {a:g}, beta {b:g}": {"alpha": a, "beta": b} for a in GRID for b in GRID}


def candidates(method: str, lr: float = TrainingSettings.lr) -> tuple[Settings, ...]:
    """Return the settings to choose from; their learning rates scale with ``lr`` relative to its default."""
    scale = lr / TrainingSettings.lr
    return tuple(
        {name: value * scale if name == "lr" else value for name, value in settings.items()}
        for settings in METHODS[method].candidates
    )


def train_config(base: TrainingSettings, settings: Settings) -> TrainingSettings:
    """Return the settings of a training: the shared ones, with those of the method."""
    return replace(base, **{name: value for name, value in settings.items() if name in _TRAINING})


def imf_config(student: str, base: TrainingSettings, settings: Settings) -> DistillSettings:
    """Return the settings of a distillation: the shared ones, with those of IMF."""
    return DistillSettings(student=student, **(vars(base) | dict(settings)))
