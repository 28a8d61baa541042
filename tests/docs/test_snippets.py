"""Every Python snippet of the README and of docs/ runs as it is printed, or is listed here with a reason."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import imf_deploy
from imf_deploy import Preprocess

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def fences(page: Path, *languages: str) -> list[str]:
    return [found[2] for found in FENCE.finditer(page.read_text()) if found[1] in languages]


def net(classes: int = 3, width: int = 8) -> nn.Module:
    """A small network of a user's own."""
    torch.manual_seed(0)
    stages = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        stages.append(nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()))
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))


def loader(seed: int) -> DataLoader[Any]:
    """Noisy colours, one for each of three classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (96,), generator=generator)
    colours = 2.0 * nn.functional.one_hot(labels, 3)[:, :, None, None] - 0.67
    images = colours + 0.5 * torch.randn(96, 3, 32, 32, generator=generator)
    return DataLoader(TensorDataset(images, labels), 16, shuffle=True)


def exported(name: str, size: int, labels: tuple[str, ...], color: Any = "RGB") -> None:
    """Write the file that a command on the page would have written."""
    Path(name).parent.mkdir(parents=True)
    about = Preprocess(size, "none", size, (0.5,) * 3, (0.5,) * 3, labels, color)
    imf_deploy.export_onnx(net(len(labels)), name, preprocess=about)


def objects(namespace: dict[str, Any], _patch: pytest.MonkeyPatch) -> None:
    teacher = net(width=16)
    optimizer = torch.optim.Adam(teacher.parameters(), 0.01)
    for _ in range(4):
        for images, labels in loader(0):
            optimizer.zero_grad()
            nn.functional.cross_entropy(teacher(images), labels).backward()
            optimizer.step()
    namespace |= {"student": net(), "teacher": teacher}
    namespace |= {name: loader(seed) for seed, name in enumerate(("train", "val", "test"))}


def readme(namespace: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    exported("imf-deploy-out/deploy/mobilenetv2-plain-fp32.onnx", 28, tuple("abcdefghij"), "L")
    objects(namespace, patch)


def tutorial(_namespace: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    exported("shapes-run/deploy/shufflenetv2-plain-fp32.onnx", 32, ("circle", "square", "triangle"))
    (command,) = (line for fence in fences(REPOSITORY / "docs/tutorial.md", "sh") for line in [fence.strip()]
                  if line.startswith("python classify.py"))  # fmt: skip
    patch.setattr(sys, "argv", command.split()[1:])


def metrics(namespace: dict[str, Any], _patch: pytest.MonkeyPatch) -> None:
    module, test = net(), loader(2)
    files = [imf_deploy.export_onnx(module, "net.onnx", image_size=32)]
    imf_deploy.write_report("imf-deploy-out", imf_deploy.verify(files, module, test))
    namespace |= {"imf_deploy": imf_deploy, "plain": module, "files": files, "test": test}


BEFORE: dict[str, Callable[[dict[str, Any], pytest.MonkeyPatch], None]] = {
    "README.md": readme,
    "metrics.md": metrics,
    "python.md": objects,
    "tutorial.md": tutorial,
}
"""What a page takes for granted: objects that its text names, and files that its commands write."""


@pytest.mark.parametrize("page", [p for p in PAGES if fences(p, "python")], ids=lambda page: page.name)
def test_snippets_run_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    if page.name in BEFORE:
        BEFORE[page.name](namespace, monkeypatch)
    for snippet in fences(page, "python"):
        code = compile(snippet, str(page), "exec")
        exec(code, namespace)
    if page.name == "README.md":
        report = json.loads(Path("out/report.json").read_text())
        assert report["status"] == "pass"
        assert report["recommendation"]
        assert Path("out/report.html").is_file()


def test_the_way_to_a_report_is_short() -> None:
    (way,) = (snippet for snippet in fences(PAGES[0], "python") if "write_report" in snippet)
    assert len(way.splitlines()) <= 15
    assert all(
        f"imf_deploy.{verb}(" in way for verb in ("strip", "export_onnx", "quantize", "verify", "bench")
    )
