"""Defaults that depend on what a training starts from; whatever the user gives comes first."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.cli.app import app
from imf_deploy.files import finite
from imf_deploy.settings import DistillSettings, RunTeacher, TeacherSettings
from imf_deploy.settings.base import from_record
from imf_deploy.settings.starts import STUDENT, STUDY, TEACHER, TEACHER_CHOICE
from imf_deploy.settings.study import StudySettings
from imf_deploy.settings.teacher import TeacherChoice

STARTS = [
    (TeacherSettings, TEACHER),
    (RunTeacher, TEACHER),
    (TeacherChoice, TEACHER_CHOICE),
    (DistillSettings, STUDENT),
    (StudySettings, STUDY),
]
IDS = [kind.__name__ for kind, _ in STARTS]


@pytest.mark.parametrize(("kind", "start"), STARTS, ids=IDS)
def test_given_weights_change_only_their_defaults(kind: Any, start: Any) -> None:
    fresh, given = kind(), kind(**{start.option: "weights.pt"})
    for field in fields(kind):
        expected = start.defaults.get(field.name, getattr(fresh, field.name))
        assert getattr(given, field.name) == ("weights.pt" if field.name == start.option else expected)
    assert any(getattr(fresh, name) != value for name, value in start.defaults.items())


@pytest.mark.parametrize(("kind", "start"), STARTS, ids=IDS)
def test_a_given_value_wins_even_if_it_is_the_other_default(kind: Any, start: Any) -> None:
    for name in start.defaults:
        fresh = getattr(kind(), name)
        assert getattr(kind(**{start.option: "weights.pt", name: fresh}), name) == fresh


@pytest.mark.parametrize(("kind", "start"), [(TeacherSettings, TEACHER), (DistillSettings, STUDENT)])
def test_the_rate_follows_the_optimiser(kind: Any, start: Any) -> None:
    given = kind(**{start.option: "weights.pt", "optimizer": "sgd"})
    assert {name: getattr(given, name) for name in start.sgd} == start.sgd
    assert start.sgd["lr"] != start.defaults["lr"]
    assert kind(**{start.option: "weights.pt", "optimizer": "sgd", "lr": 0.3}).lr == 0.3


@pytest.mark.parametrize(("kind", "start"), STARTS, ids=IDS)
def test_copies_and_records_keep_the_values(kind: Any, start: Any) -> None:
    given = kind(**{start.option: "weights.pt"})
    assert replace(given) == given
    assert from_record(kind, finite(asdict(given))) == given


def parsed(*words: str) -> TeacherSettings:
    _, bound, _ = app.parse_args(["train-teacher", *words])
    config = bound.arguments["config"]
    assert isinstance(config, TeacherSettings)
    return config


def test_the_order_of_precedence(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("teacher-weights: weights.pt\nema: 0.5\nlr: 0.3\n")
    preset = ("--preset", "cifar100/resnet56-resnet20")
    config = parsed("--config", str(file), "--lr", "0.7", *preset)
    assert (config.lr, config.ema) == (0.7, 0.5)  # command line, file
    assert (config.epochs, config.batch_size, config.optimizer) == (240, 64, "sgd")  # preset
    alone = parsed("--config", str(file))
    assert (alone.lr, alone.ema) == (0.3, 0.5)
    assert alone.weight_decay == TEACHER.defaults["weight_decay"]  # start
    assert config.momentum == TeacherSettings.momentum
    assert parsed("--teacher-weights", "weights.pt") == TeacherSettings(teacher_weights="weights.pt")


def test_help_shows_both_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    app(["train-teacher", "--help"], exit_on_error=False, result_action="return_value")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, value in TEACHER.defaults.items():
        usual = getattr(TeacherSettings(), name)
        assert f"[default: {usual}; {value} with --teacher-weights]" in shown
