from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from imf_deploy.comparison.render import render
from imf_deploy.comparison.stage import Comparison, compare
from imf_deploy.settings.compare import Budget

MakeRun = Callable[..., Path]


def printed(comparison: Comparison, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(comparison))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_80_columns_hold_every_file(make_run: MakeRun) -> None:
    text = printed(compare([make_run("one"), make_run("two")]))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.strip() for line in lines if line.startswith(("one/", "two/"))] == [
        "one/deploy/net-…",
        "two/deploy/net-…",
    ]
    chosen = next(line for line in lines if "→" in line)
    for shown in ("→ imf@2-fp32.onnx", "89.5", "88.0 ±2.0", "1.00", "2.00 MB", "latency, size"):
        assert shown in chosen
    assert sum("fail" in line for line in lines) == sum("not run" in line for line in lines) == 2
    assert "Deploy one/deploy/net-imf@2-fp32.onnx: the fastest file" in " ".join(text.split())


def test_memory_is_shown_where_it_is_known(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    rows = [one_row("plain-fp32", memory_bytes=50_000_000), one_row("imf@1-fp32")]
    assert "50.0 MB" in printed(compare([make_run(rows=rows)]), 100)
    assert "memory" not in printed(compare([make_run("other")]), 200)


def test_what_misses_the_budget_is_left_to_the_error(make_run: MakeRun) -> None:
    assert "No file fits" not in printed(compare([make_run()], Budget(size_budget_mb=0.001)))


def test_foreign_names_steer_no_terminal(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    rows = [one_row("plain-fp32", path="[red]x\x1b[2J.onnx"), one_row("imf@1-fp32")]
    text = printed(compare([make_run(rows=rows, dataset="\x1b]0;gone\x07")]), 120)
    assert "\x1b" not in text
    assert r"[red]x\x1b[2J.onnx" in text


@pytest.mark.parametrize("width", [30, 200])
def test_any_width_prints(make_run: MakeRun, width: int) -> None:
    assert "Deploy run/" in " ".join(printed(compare([make_run()]), width).split())
