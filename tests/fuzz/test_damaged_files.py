"""Every command that reads files ends as documented, whatever the files hold; see docs/reliability.md."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks processes with Linux's limits")
SERIES = Path(__file__).parents[2] / "benchmarks" / "reliability"


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of the script that this test runs a part of."""
    monkeypatch.syspath_prepend(SERIES)
    return __import__


def test_commands_end_as_documented(tmp_path: Path) -> None:
    """Documented exit codes, one message, bounded time and memory, for 25 s of processor time."""
    command = [
        sys.executable,
        str(SERIES),
        "mutations",
        "--cpu-seconds",
        "25",
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " 0 faults" in done.stdout


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, ""),
        ({"code": 0, "err": "a remark\n"}, ""),
        ({"code": 0}, "1 messages for exit code 0"),
        ({"err": ""}, "0 messages for exit code 1"),
        ({"err": "error: a.\nerror: b.\n"}, "2 messages"),
        ({"err": "Traceback (most recent call last):\n  x\nValueError: y\n"}, "traceback: ValueError: y"),
        ({"code": -11}, "signal 11"),
        ({"code": 134}, "exit code 134"),
        ({"err": "error: \x1b[2J.\n"}, "an escape"),
        ({"err": f"error: {'x' * 9000}.\n"}, "too long"),
        ({"out": "\u202e"}, "an escape"),
        ({"cpu_seconds": 99.0}, "processor time"),
        ({"resident_bytes": 3 << 30}, "of memory"),
    ],
)
def test_the_judge(series: Callable[[str], Any], changed: dict[str, Any], fault: str) -> None:
    sound = {"subject": "s", "number": 0, "command": "inspect", "code": 1, "cpu_seconds": 1.0,
             "resident_bytes": 1, "out": "", "err": "a remark\nerror: it failed.\n"}  # fmt: skip
    ended = series("cases").Ended(**(sound | changed))
    assert fault in ended.fault
    assert bool(ended.fault) == bool(fault)


def test_a_case_follows_from_its_number(series: Callable[[str], Any]) -> None:
    mutate = series("mutate")
    document = b'{"a": [1, {"b": "text"}], "c": null}'
    for way in (mutate.damage, mutate.damage_json, mutate.damage_text):
        made = [way(document, Random(f"seed/{number}")) for number in range(40)]
        assert made == [way(document, Random(f"seed/{number}")) for number in range(40)]
        assert len(set(made)) > 15
