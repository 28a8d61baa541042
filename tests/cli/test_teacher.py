"""A teacher that has nothing to teach is spoken of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.models import ModelSpec, build_model
from imf_deploy.train.teacher import weak_teacher


def test_a_teacher_that_knows_nothing_is_told_of(here: Callable[..., Any], image_folder: Path) -> None:
    teacher = build_model(ModelSpec.for_images("resnet14", 3, 32))
    torch.nn.init.zeros_(teacher.fc.weight)  # one answer for every picture
    torch.save(teacher.state_dict(), "weights.pt")
    options = ["--data", image_folder, "--image-size", 32, "--device", "cpu", "--epochs", 1]
    named = ["--student", "resnet8", "--teacher", "resnet14", "--teacher-weights", "weights.pt"]
    result = here("distill", *options, *named, "--output", "run")
    assert result.code == 0, result.err
    assert "The teacher (33.33%) is no better than the student" in result.err


@pytest.mark.parametrize(
    ("teacher", "student", "weak"), [(0.9, 0.8, False), (0.9, 0.9, True), (0.8, 0.9, True)]
)
def test_no_better_is_weak(teacher: float, student: float, weak: bool) -> None:
    assert bool(weak_teacher(teacher, student)) == weak
