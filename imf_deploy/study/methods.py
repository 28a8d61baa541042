"""The methods that a study compares, and their candidate settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from imf_deploy.settings import DistillSettings, LossSettings, StudySettings, TrainingSettings

Settings = Mapping[str, Any]
"""Values by name: of the loss, of the branches' design, and of the training."""


@dataclass(frozen=True)
class Method:
    """One way to train a student.

    Attributes:
        source: The paper; :data:`imf_deploy.study.selection.TITLES` has the method's name.
        candidates: Settings to choose from on validation images, those that were published for CIFAR-100, or
            the usual ones, first. All other settings are the same for all methods.
    """

    source: str
    candidates: tuple[Settings, ...]


_KD = {"beta": LossSettings.beta, "temperature": LossSettings.temperature}
_DKD = {"target": 1.0, "others": 8.0, "temperature": 4.0}
_CRD = {"contrast": 0.8, "kd": 0.0, "temperature": 4.0}
_DIST = {"classes": 2.0, "images": 2.0, "temperature": 4.0}
_KD_LS = {"labels": 0.1, "kd": 9.0, "temperature": 2.0}
_MLKD = {"labels": 0.1, "instance": 0.9, "relations": 0.9}
_MLKD_LS = {"labels": 0.1, "instance": 9.0, "relations": 9.0}
_FEW_CLASSES = {"instance": 0.9, "relations": 0.03}

_SLOW = {"lr": 0.025}


def imf_candidates(
    alpha: float = LossSettings.alpha, beta: float = LossSettings.beta
) -> tuple[Settings, ...]:
    """Return the settings to choose from for IMF, of which the first has the given weights."""
    first = {"alpha": alpha, "beta": beta, "temperature": LossSettings.temperature}
    other_alpha = {"alpha": 10.0 if alpha != 10 else 20.0}
    other_beta = {"beta": 40.0 if beta != 40 else 20.0}
    return (first, first | _SLOW, first | other_alpha, first | other_beta)


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
    "crd": Method(
        "Tian et al. 2020",
        (_CRD, _CRD | _SLOW, _CRD | {"kd": 1.0}, _CRD | {"contrast": 0.2}),
    ),
    "reviewkd": Method(
        "Chen et al. 2021",
        ({"review": 5.0}, {"review": 5.0} | _SLOW, {"review": 1.0}, {"review": 8.0}),
    ),
    "dist": Method(
        "Huang et al. 2022",
        (_DIST, _DIST | _SLOW, _DIST | {"temperature": 1.0}, _DIST | {"classes": 1.0, "images": 1.0}),
    ),
    "mlkd": Method(
        "Jin et al. 2023",
        (
            _MLKD | _SLOW,
            _MLKD | _SLOW | _FEW_CLASSES,
            _MLKD | _FEW_CLASSES,
            _MLKD | _FEW_CLASSES | {"labels": 1.0},
        ),
    ),
    "kd-ls": Method(
        "Hinton et al. 2015 with Sun et al. 2024",
        (_KD_LS, _KD_LS | _SLOW, _KD_LS | {"kd": 3.0}, _KD_LS | {"temperature": 3.0}),
    ),
    "mlkd-ls": Method(
        "Jin et al. 2023 with Sun et al. 2024",
        (
            _MLKD_LS | _SLOW,
            _MLKD_LS | _SLOW | _FEW_CLASSES,
            _MLKD_LS | _FEW_CLASSES,
            _MLKD_LS | _FEW_CLASSES | {"labels": 1.0},
        ),
    ),
    "imf": Method("Kim et al. 2023", imf_candidates()),
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
    "imf@k of any size": {"budget": 0.0},
}
"""Ablations of IMF: variants by the name that ``variant`` takes, as changes of the chosen settings (ours)."""

GRID = (10.0, 20.0, 30.0, 40.0)
"""The paper's grid of alpha and beta."""


def grid() -> dict[str, Settings]:
    """Return all pairs of alpha and beta of the paper's grid, by name."""
    return {f"alpha {a:g}, beta {b:g}": {"alpha": a, "beta": b} for a in GRID for b in GRID}


def candidates(method: str, config: StudySettings) -> tuple[Settings, ...]:
    """Return the settings to choose from, of which a study tries the first.

    Their learning rates scale with that of the study relative to its default.
    """
    scale = config.lr / TrainingSettings.lr
    own = imf_candidates(config.alpha, config.beta) if method == "imf" else METHODS[method].candidates
    return tuple(
        {name: value * scale if name == "lr" else value for name, value in settings.items()}
        for settings in own
    )


def train_config(base: TrainingSettings, settings: Settings) -> TrainingSettings:
    """Return the settings of a training: the shared ones, with those of the method."""
    return replace(base, **{name: value for name, value in settings.items() if name in _TRAINING})


def imf_config(student: str, base: TrainingSettings, settings: Settings) -> DistillSettings:
    """Return the settings of a distillation: the shared ones, with those of IMF."""
    return DistillSettings(student=student, **(vars(base) | dict(settings)))
