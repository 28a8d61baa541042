"""What a study found: one record for each training, and one for each network that came out."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trained:
    """One finished training.

    Attributes:
        student: Name of the architecture.
        method: A key of :data:`imf_deploy.study.methods.METHODS`.
        variant: What differs from the method's own settings, in words; empty for nothing.
        seed: Of weights, order and augmentation.
        epochs: Passes over the training split.
        validation: Accuracy of each product on the validation split, from 0 to 1; ``plain`` is the
            student itself, and IMF also has ``imf@k``; empty where the training diverged.
        test: The same on the test split; empty where the training only chose settings.
        cpu_seconds: Processor time of the training; nothing where it was cut off and gone on with.
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
    """What a network costs when it runs; the same for every method and seed.

    Attributes:
        student: Name of the architecture.
        product: ``plain`` or ``imf@k``.
        parameters: Numbers in its weights.
        macs: Multiply-accumulates of one picture.
        latency_ms: Median time of one picture in milliseconds, by precision (``fp32``, ``int8``);
            empty where it was not measured.
        int8_accuracy: Of the calibrated file on the test split, from 0 to 1.
    """

    student: str
    product: str
    parameters: int
    macs: int
    latency_ms: dict[str, float] = field(default_factory=dict)
    int8_accuracy: float | None = None
