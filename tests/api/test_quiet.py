"""The library neither prints, nor ends the process, nor reads the command line: it logs, and it raises."""

import ast
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import Tensor, nn

import imf_deploy
from imf_deploy import DistillSettings, progress

PACKAGE = Path(imf_deploy.__file__).parent
OWN = {"sys.exit", "sys.argv", "sys.stdout", "sys.stderr", "os._exit"}
ALLOWED = {"study/pool.py": "os._exit"}  # a worker whose parent was killed has nobody to raise to


def is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def spoken(path: Path) -> Iterator[str]:
    """Yield what a module does that only a program may do, outside of its own ``__main__`` part."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not is_main(node)]
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "exit")
        ):
            yield f"{node.func.id} in line {node.lineno}"
        name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if name in OWN and name != ALLOWED.get(path.relative_to(PACKAGE).as_posix()):
            yield f"{name} in line {node.lineno}"


def test_only_programs_print_and_exit() -> None:
    found = {}
    for path in sorted(files()):
        if words := list(spoken(path)):
            found[str(path.relative_to(PACKAGE))] = words
    assert not found


def files() -> Iterator[Path]:
    for folder in (PACKAGE, PACKAGE / "export", PACKAGE / "calib"):
        for path in folder.rglob("*.py"):
            if "cli" not in path.relative_to(PACKAGE).parts and path.name != "__main__.py":
                yield path


def test_the_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    path = PACKAGE / "made_up.py"
    code = "import sys\nprint(1)\nsys.exit(2)\nif __name__ == '__main__':\n    print(sys.argv)\n"

    class Text(type(path)):  # type: ignore[misc]
        def read_text(self) -> str:
            return code

    assert list(spoken(Text(path))) == ["print in line 2", "sys.exit in line 3"]


SETTINGS = DistillSettings(epochs=1, lr=0.02, device="cpu")


def test_a_training_logs_and_prints_nothing(
    student: nn.Module,
    big: nn.Module,
    loader: list[tuple[Tensor, Tensor]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A command that another test ran in this process may have installed its display.
    monkeypatch.setattr(progress, "_display", [])
    monkeypatch.setattr(progress.log, "handlers", [])
    monkeypatch.setattr(progress.log, "propagate", True)
    with caplog.at_level(logging.INFO, "imf_deploy"):
        imf_deploy.distill(student, big, loader, settings=SETTINGS)
    assert any("epoch 1 of 1" in record.message for record in caplog.records)
    assert {record.name for record in caplog.records if record.levelno >= logging.INFO} == {"imf_deploy"}
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_a_display_of_one_s_own(
    student: nn.Module, big: nn.Module, loader: list[tuple[Tensor, Tensor]]
) -> None:
    seen: dict[str, list[int]] = {}

    class Display:
        @contextmanager
        def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
            amounts = seen.setdefault(f"{title}, {total}", [])
            yield amounts.append

        @contextmanager
        def whole(self, _bar: progress.Whole) -> Iterator[None]:
            yield

    progress.show_on(Display())
    try:
        imf_deploy.distill(student, big, loader, settings=SETTINGS)
    finally:
        progress.show_on(None)
    (steps,) = (amounts for title, amounts in seen.items() if title.startswith("Distilling TinyNet, 6"))
    assert sum(steps) == 6
