"""Typed values from untrusted JSON, checked by pydantic in its strict mode."""

import json
import math
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.untrusted import shorten

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)

STRICT = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
"""Text is not a number, true is not 1, numbers are finite, and a whole number is also a ``float``."""

Whole = Annotated[int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]


def _bounded(value: float) -> float:
    if abs(value) > LARGEST_NUMBER:
        raise ValueError(f"Input should be at most {LARGEST_NUMBER}")
    return value


Measured = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(lambda value: math.nan if value is None else value),
    AfterValidator(_bounded),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A measurement that may have failed: JSON contains null if it is not finite."""


def read_typed(kind: type[Value], content: Any) -> Value:
    """Build a dataclass from a JSON object that fits it.

    Args:
        kind: The dataclass, which has no unknown keys.
        content: The object, as :mod:`json` reads it.

    Raises:
        ValueError: a field is missing, unknown, of another type, or out of its bounds; the message names it.
    """
    try:
        return _adapter(kind).validate_json(f"[{json.dumps(content)}]")[0]  # type: ignore[arg-type, no-any-return]
    except ValidationError as error:
        raise ValueError(first_problem(error, skip=1)) from None
    except UsageError as error:  # settings inside a record
        raise ValueError(error.what) from None


def from_json(model: type[Model], content: Any) -> Model:
    """Build a pydantic model from parsed JSON; fields that it does not know are dropped.

    Raises:
        ValueError: a field is missing, of another type, or out of its bounds; the message names it.
    """
    try:
        # Validated as JSON text, because Python's lists are not tuples.
        return model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    except UsageError as error:  # settings inside a record
        raise ValueError(error.what) from None


def to_json(value: Any) -> Any:
    """Return the JSON form of a dataclass that pydantic reads."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def first_problem(error: ValidationError, skip: int = 0) -> str:
    """Return the first problem that pydantic found, in one short clause that names the field.

    Args:
        error: Error from pydantic.
        skip: Number of outer steps of the path to leave out.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{shorten(step, 60)}" for step in first["loc"][skip:]
    )
    place = "".join(steps).lstrip(".")[-200:] or "it"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}{message[5:]}" if message.startswith("Input ") else f"{place}: {message}"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # A dataclass uses the settings of its parent type, and cannot have its own.
    return TypeAdapter(tuple[kind], config=STRICT | ConfigDict(extra="forbid"))
