"""``doctor`` on this machine, and on ones that lack or break a part."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from imf_deploy.doctor import machine, runtimes
from imf_deploy.doctor.examine import examine, to_dict
from imf_deploy.doctor.finding import Finding, render

Cli = Callable[..., Any]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_every_part_is_there_or_missing_and_json_holds_all(tmp_path: Path) -> None:
    found = examine(tmp_path)
    content = json.loads(json.dumps(to_dict(found)))
    for purpose in ("build", "run", "measure"):
        for part, finding in content[purpose].items():
            assert finding["found"] or finding["missing"], part
            assert finding.keys() == {"found", "missing", "command"}
    assert content["build"]["PyTorch"]["found"].startswith(torch.__version__)
    assert "CPU" in content["run"]["ONNX Runtime"]["found"]
    assert content["versions"]["torch"]


def test_the_command_exits_with_0_and_prints_json_alone(cli: Cli) -> None:
    result = cli("doctor", "--json")
    assert result.code == 0
    assert {"build", "run", "measure"} <= json.loads(result.out).keys()


def test_a_part_that_breaks_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("driver and library differ\nmore")

    monkeypatch.setattr(runtimes, "cuda_device", broken)
    found = examine(tmp_path)["run"]
    assert found["CUDA device"].missing == "it cannot be checked (RuntimeError: driver and library differ)"
    assert found["ONNX Runtime"].found


@pytest.mark.parametrize(
    ("module", "check", "command"),
    [
        ("openvino", runtimes.openvino, 'pip install "imf-deploy[openvino]"'),
        ("tensorrt_rtx", runtimes.tensorrt_rtx, "pip install tensorrt-rtx"),
    ],
)
def test_a_library_that_is_not_installed(
    module: str, check: Callable[[], Finding], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = check()
    assert (found.found, found.command) == ("", command)
    assert "not usable" in found.missing


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = runtimes.tensorrt()
    assert "needs a CUDA device" in found.missing
    assert found.command == ""
    monkeypatch.setattr(runtimes.shutil, "which", lambda name: None)
    assert "no NVIDIA driver" in runtimes.cuda_device().missing
    monkeypatch.setattr(runtimes.shutil, "which", lambda name: name)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert runtimes.cuda_device().command == "pip install --upgrade torch torchvision"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert runtimes.cuda_device().command == "nvidia-smi"


@pytest.mark.usefixtures("no_gpu")
def test_what_builds_without_a_gpu_says_that_it_does_not_run() -> None:
    pytest.importorskip("tensorrt_rtx")
    found = runtimes.tensorrt_rtx()
    assert "builds engines" in found.found
    assert "to run them" in found.missing


@pytest.mark.parametrize(("capability", "runs"), [((8, 9), True), ((9, 0), False)])
def test_a_gpu_that_rtx_does_not_run_on(
    capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    missing = runtimes.tensorrt_rtx().missing
    assert missing == ("" if runs else "an NVIDIA RTX GPU, to run them (the GPU here is SM90)")


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.shutil, "which", lambda name: None)
    assert runtimes.compiler().command == "sudo apt-get install g++"


@pytest.mark.parametrize(("name", "command"), [("performance", ""), ("powersave", "sudo cpupower")])
def test_the_governor(name: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "read_governor", lambda: name)
    assert machine.governor().command.startswith(command)
    assert bool(machine.governor().missing) == bool(command)


def test_int8_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, missing in ((["avx2", "avx512_vnni"], False), (["avx2"], True), ([], True)):
        monkeypatch.setattr(machine, "isa_flags", lambda flags=flags: flags)
        assert bool(machine.int8_instructions().missing) is missing


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    assert "1.0 GiB" in machine.disk(tmp_path).missing


def test_the_table_prints_brackets_as_they_are() -> None:
    console = Console(width=100)
    findings = {"run": {"OpenVINO": Finding("", "no [x]", 'pip install "imf-deploy[openvino]"')}}
    with console.capture() as captured:
        console.print(render(findings))
    assert 'type: pip install "imf-deploy[openvino]"' in captured.get()
    assert "missing: no [x]" in captured.get()
