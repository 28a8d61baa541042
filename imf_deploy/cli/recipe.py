"""Options of every training, which commands take as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imf_deploy import defaults
from imf_deploy.cli.options import TRAINING

if TYPE_CHECKING:
    from imf_deploy.settings import MonitoringSettings


class OptimizerName(StrEnum):
    """What changes the weights."""

    SGD = "sgd"
    ADAMW = "adamw"


class Keep(StrEnum):
    """Whose weights are the result."""

    LAST = "last"
    BEST = "best"


@dataclass(frozen=True)
class Recipe:
    """Values of the options below, by their names."""

    values: dict[str, Any]

    def monitoring(self) -> MonitoringSettings:
        """Return what is kept and reported of the training while it runs."""
        from imf_deploy.cli.read import read
        from imf_deploy.settings import MonitoringSettings

        return read(MonitoringSettings, self.values)


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=TRAINING)


def _recipe(
    optimizer: Annotated[OptimizerName, _option(help="SGD with momentum, or AdamW.")] = OptimizerName.SGD,
    momentum: Annotated[float, _option(help="Of SGD.")] = defaults.MOMENTUM,
    weight_decay: Annotated[float, _option(help="L2 penalty on weights.")] = defaults.WEIGHT_DECAY,
    decay_norms: Annotated[bool, _option(help="Weight decay also on biases and norms.")] = True,
    label_smoothing: Annotated[float, _option(help="Part of a label that all classes share.")] = 0.0,
    mixup: Annotated[float, _option(help="Parameter of mixup, such as 0.2; 0 is none.")] = 0.0,
    cutmix: Annotated[float, _option(help="Parameter of CutMix, such as 1; 0 is none.")] = 0.0,
    ema: Annotated[
        float, _option(help="Decay of the averaged weights that are kept, such as 0.999; 0 is none.")
    ] = 0.0,
    clip_grad: Annotated[float, _option(help="Largest norm of the gradient; 0 is any.")] = 0.0,
    grad_accumulation: Annotated[
        int, _option(help="Parts that a batch is computed in, one after the other, for less memory.")
    ] = 1,
    keep: Annotated[
        Keep, _option(help="The last epoch's weights, or those with the best validation accuracy.")
    ] = Keep.LAST,
) -> None:
    """Fields of ``TrainingSettings``."""


def _scaling(
    lr_base_size: Annotated[
        int, _option(help="Batch size that --lr is for: the rate grows with --batch-size; 0 takes --lr.")
    ] = 0,
) -> None:
    """What changes the value of another option."""


def _monitoring(
    checkpoint_minutes: Annotated[
        float, _option(help="Time between checkpoints within an epoch.")
    ] = defaults.CHECKPOINT_MINUTES,
    teacher_outputs_gb: Annotated[
        float, _option(help="Disk space for a teacher's outputs that are needed again; 0 keeps none.")
    ] = defaults.TEACHER_OUTPUTS_GB,
    cuda_graph: Annotated[
        bool,
        _option("--cuda-graph/--no-cuda-graph", help="Run training steps on a GPU as one CUDA graph."),
    ] = defaults.CUDA_GRAPH,
    tensorboard: Annotated[
        bool, _option("--tensorboard", help="Write losses, rate and accuracy for TensorBoard.")
    ] = False,
) -> None:
    """Fields of ``MonitoringSettings``."""


Command = Callable[..., None]


def with_recipe(command: Command) -> Command:
    """Give a command all of these options; it takes their values as ``recipe``."""
    return _extend(command, [_recipe, _scaling, _monitoring])


def with_monitoring(command: Command) -> Command:
    """Give a command the options that decide nothing; it takes their values as ``recipe``."""
    return _extend(command, [_monitoring])


def _extend(command: Command, templates: list[Command]) -> Command:
    """Put the templates' parameters in the place of ``recipe``, where Typer looks for options."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "recipe"]
    added = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for template in templates
        for p in inspect.signature(template, eval_str=True).parameters.values()
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        recipe = Recipe({p.name: values.pop(p.name) for p in added})
        command(**values, recipe=recipe)

    everything = [*own, *added]
    # Typer reads the options from here; a function's type does not declare it.
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in everything}
    return run
