"""The temperature of confidences: recovered, optimal, and bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imf_deploy.tasks.temperature import HIGHEST, LOWEST, fit_temperature


def drawn(images: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits whose probabilities are right: labels are drawn from them."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (images, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > random.random((images, 1))).argmax(1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_a_temperature_is_recovered(temperature: float) -> None:
    logits, labels = drawn()
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = drawn(300)
    best = fit_temperature(logits.astype(np.float32) * 2, labels)

    def nll(temperature: float) -> float:
        scaled = torch.from_numpy(logits * 2 / temperature)
        return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)))

    assert nll(best) == min(nll(best * factor) for factor in (0.9, 0.99, 0.999, 1, 1.001, 1.01, 1.1))


def test_the_ends() -> None:
    labels = np.array([0, 1, 2])
    assert fit_temperature(np.eye(3)[labels], labels) == pytest.approx(LOWEST)
    assert fit_temperature(np.eye(3)[[1, 2, 0]], labels) == pytest.approx(HIGHEST)
    assert fit_temperature(np.zeros((3, 3)), labels) == 1.0
    assert fit_temperature(np.full((3, 3), 1e30, np.float32), labels) == 1.0
