"""The shape of the source: no circular imports, and a study that nothing but its command imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACE = "imf_deploy"
"""Its ``__init__`` imports lazily whatever a user names, so it alone may close a circle."""

Graph = Mapping[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Return the path of every module of the package; ``export`` and ``calib`` are reached by their links."""
    paths = [
        path
        for top in (ROOT / "imf_deploy", ROOT / "imf_deploy/export", ROOT / "imf_deploy/calib")
        for path in top.rglob("*.py")
    ]
    return {dotted(path.relative_to(ROOT)): path for path in paths}


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, name: str, known: Iterable[str], is_package: bool = False) -> set[str]:
    """Return the modules of ``known`` that a source text imports anywhere, also relatively."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parent = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parent, *filter(None, [node.module])])
            found.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
    return (found & set(known)) - {name, FACE}


@cache
def files() -> dict[str, set[str]]:
    """Return the imports of every file, except the lazy face of the package."""
    return {
        name: imported(path.read_text("utf-8"), name, modules(), path.name == "__init__.py")
        for name, path in modules().items()
        if name != FACE
    }


def folder(name: str) -> str:
    """Return the package that a module is in; a module directly under ``imf_deploy`` stands for itself."""
    return name if modules()[name].name == "__init__.py" or name.count(".") == 1 else name.rpartition(".")[0]


def folders() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for name, others in files().items():
        graph.setdefault(folder(name), set()).update(map(folder, others))
    return {name: others - {name} for name, others in graph.items()}


def circle(graph: Graph) -> list[str]:
    """Return one cycle, from a name back to itself; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


@pytest.mark.parametrize("graph", [files, folders])
def test_no_imports_go_round_in_a_circle(graph: object) -> None:
    assert callable(graph)
    found = circle(graph())
    assert not found, f"{graph.__name__} import each other: {' -> '.join(found)}"


def test_only_its_command_imports_the_study() -> None:
    """It is a research instrument beside the deployment: what ships files does not know it."""
    study = {name for name in modules() if name.startswith("imf_deploy.study")}
    importers = {name for name, others in files().items() if others & study and name not in study}
    assert importers <= {"imf_deploy.cli.trainings"}


def test_the_whole_package_is_walked() -> None:
    assert {"imf_deploy.export.stage", "imf_deploy.calib.stage", "imf_deploy.models.cifar.resnet"} <= set(
        files()
    )
    assert "imf_deploy.export.onnx_writer" in files()["imf_deploy.export.stage"]


SOURCE = """
from __future__ import annotations
import json, pkg.plain
from typing import TYPE_CHECKING
from pkg import sub, word
from . import near
from .near import thing
if TYPE_CHECKING:
    from pkg.types import Kind
def later():
    from pkg.room.deep import what
class Inner:
    def late(self):
        import pkg.room
"""


def test_every_form_of_import_counts() -> None:
    known = ["pkg.plain", "pkg.sub", "pkg.own.near", "pkg.types", "pkg.room", "pkg.room.deep", "pkg.unused"]
    expected = {"pkg.plain", "pkg.sub", "pkg.own.near", "pkg.types", "pkg.room", "pkg.room.deep"}
    assert imported(SOURCE, "pkg.own.me", known) == expected
    assert imported(SOURCE, "pkg.own", known, is_package=True) == expected


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, ["a", "b", "c", "a"]),
    ],
)
def test_a_circle_is_found_and_named(graph: Graph, expected: list[str]) -> None:
    assert circle(graph) == expected
