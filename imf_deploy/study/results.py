"""Results of a study: one record for each training, and one for each network."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trained:
    """One finished training.

    Attributes:
        student: Name of the architecture.
        method: A key of :data:`imf_deploy.study.methods.METHODS`.
        variant: Difference from the method's own settings, in words; empty for none.
        seed: Seed of weights, order and augmentation.
        epochs: Passes over the training split.
        validation: Accuracy of each product on the validation split, from 0 to 1; ``plain`` is the
            student itself, and IMF also has ``imf@k``; empty if the training diverged.
        test: The same on the test split; empty if the training only served to choose settings.
        cpu_seconds: Processor time of the training; ``None`` if it was interrupted and resumed.
        settings: Everything that decided the result, as JSON values.
    """

    student: str
    method: str
    variant: str
    seed: int
    epochs: int
    validation: dict[str, float]
    test: dict[str, float]
    cpu_seconds: float | None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Costs of a network, which are the same for every method and seed.

    Attributes:
        student: Name of the architecture.
        product: ``plain`` or ``imf@k``.
        parameters: Number of parameters.
        macs: Multiply-accumulates for one image.
        latency_ms: Median latency of one image in milliseconds, by precision (``fp32``, ``int8``);
            empty if it was not measured.
        int8_accuracy: Accuracy of the calibrated file on the test split, from 0 to 1.
    """

    student: str
    product: str
    parameters: int
    macs: int
    latency_ms: dict[str, float] = field(default_factory=dict)
    int8_accuracy: float | None = None
