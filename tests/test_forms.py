"""JSON that may be anybody's: checked against types, and read into dataclasses."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from imf_deploy.forms import read_typed
from imf_deploy.models import Block, ModelSpec
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import LossSettings, TrainingSettings


@dataclass(frozen=True)
class Inner:
    side: int


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    on: bool = True
    many: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "x")
    maybe: int | None = None
    inner: Inner = field(default_factory=lambda: Inner(1))


def test_what_fits() -> None:
    content = {"name": "n", "rate": 2, "kind": "b", "on": False, "many": [1, 2], "pair": [3, "y"], "maybe": 4}
    read = read_typed(Outer, content | {"inner": {"side": 7}})
    assert read == Outer("n", 2, "b", False, (1, 2), (3, "y"), 4, Inner(7))
    assert read_typed(Outer, {"name": "n", "maybe": None}) == Outer("n")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"name": None},
        {"rate": "0.5"},
        {"rate": True},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"kind": "c"},
        {"kind": ["a"]},
        {"on": 1},
        {"many": 3},
        {"many": "12"},
        {"many": [1.5]},
        {"many": [[1]]},
        {"pair": [1]},
        {"pair": ["x", 1]},
        {"maybe": "1"},
        {"inner": None},
        {"inner": {"side": "7"}},
        {"inner": {}},
        {"unknown": 1},
        {"": 1},
    ],
)
def test_what_does_not(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^\S+ (should|Field required|Unexpected)") as caught:
        read_typed(Outer, {"name": "n"} | change)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("content", [None, [], "text", 3, {}])
def test_no_record_at_all(content: Any) -> None:
    with pytest.raises(ValueError, match=r"^(it should be an object|name: Field required)"):
        read_typed(Outer, content)


@pytest.mark.parametrize("record", [TrainingSettings(), LossSettings(), Block("a.b", 3, 4, "tokens", True)])
def test_own_records_come_back(record: Any) -> None:
    import json

    assert read_typed(type(record), json.loads(json.dumps(asdict(record)))) == record
    assert ModelSpec("resnet8", 3, 16).to_dict().keys() == {
        "name", "num_classes", "image_size", "stem_strides", "taps"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 2000},
        {"taps": ["a"] * 2000},
        {"taps": ["a" * 2000]},
        {"num_classes": 10**400},
        {"image_size": 0},
        {"stem_strides": [1] * 9},
        {"stem_strides": [3]},
    ],
)
def test_bounds_of_a_network(change: dict[str, Any]) -> None:
    spec = {"name": "resnet8", "num_classes": 3, "image_size": 16}
    assert read_typed(ModelSpec, spec) == ModelSpec("resnet8", 3, 16)
    with pytest.raises(ValueError, match=rf"^{next(iter(change))}") as caught:
        read_typed(ModelSpec, spec | change)
    assert len(str(caught.value)) < 250


def test_a_preprocessing_has_as_many_labels_as_there_are_classes() -> None:
    labels = tuple(map(str, range(20_000)))
    known = Preprocess(16, "none", 16, (0.5,) * 3, (0.5,) * 3, labels)
    assert Preprocess.from_dict(json.loads(json.dumps(asdict(known)))) == known
