"""Sums of the terms of the loss, read every step or every few steps."""

import pytest
import torch

from imf_deploy.errors import DivergedError
from imf_deploy.training.terms import Terms

NAMES = ("a", "b")


def filled(every: int, values: torch.Tensor, before: dict[str, torch.Tensor] | None = None) -> Terms:
    terms = Terms(every)
    terms.begin(2, before or {})
    same = torch.empty(2)
    for step, row in enumerate(values, 40):
        # The caller may overwrite what it gave.
        terms.add(NAMES, same.copy_(row) if every > 1 else row.clone(), step)
    return terms


@pytest.mark.parametrize("count", [1, 4, 5, 8, 11])
@pytest.mark.parametrize("before", [{}, {"b": torch.tensor(5.0), "a": torch.tensor(3.0)}])
def test_sums_do_not_depend_on_when_they_are_read(count: int, before: dict[str, torch.Tensor]) -> None:
    values = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    found = [filled(every, values, before).sums() for every in (1, 4)]
    expected = values.double().sum(0) + torch.tensor([3.0, 5.0] if before else [0.0, 0.0])
    for sums in found:
        assert tuple(sums) == NAMES
        assert [float(t) for t in sums.values()] == pytest.approx(expected.tolist(), rel=1e-6)


def test_an_epoch_begins_anew() -> None:
    terms = filled(4, torch.ones(6, 2))
    terms.sums()
    terms.begin(3, {})
    terms.add(NAMES, torch.full((2,), 7.0), 60)
    assert {name: float(t) for name, t in terms.sums().items()} == {"a": 7.0, "b": 7.0}


@pytest.mark.parametrize(("bad", "count"), [(0, 1), (3, 4), (4, 5), (5, 7), (6, 12)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_step_that_is_not_finite_is_named(bad: int, count: int, value: float) -> None:
    values = torch.ones(count, 2)
    values[bad:, 1] = value
    with pytest.raises(DivergedError, match=rf"became {value} at step {40 + bad} \(epoch 3\)"):
        filled(4, values).settle()


def test_steps_are_read_at_the_latest_when_they_are_due() -> None:
    values = torch.ones(4, 2)
    values[0, 0] = torch.nan
    with pytest.raises(DivergedError):
        filled(4, values)
    assert filled(5, values)  # not yet
