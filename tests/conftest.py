"""Tiny real data, a tiny trained teacher, a distilled student, and the command line in a process."""

import os

from imf_deploy.records.files import Artifact
from imf_deploy.settings import RunTeacher
from imf_deploy.settings.run import DeploySettings

os.environ["OMP_NUM_THREADS"] = "1"
# As on the command line: threads of measurements that spin while they wait cost several times their work.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# Python started by a test in the repository's root would take imf_deploy/ there, not what is installed.
os.environ["PYTHONSAFEPATH"] = "1"

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import Distilled, distill, load_distilled
from imf_deploy.pipeline.job import distill_and_export
from imf_deploy.settings import DataSettings, DistillSettings, RunSettings, TeacherSettings, TrainingSettings
from imf_deploy.teaching.teacher import Teacher, load_teacher, train_teacher
from imf_deploy.training.device import choose_device

# Tiny networks gain nothing from threads, and lose much on a busy machine.
torch.set_num_threads(1)


def _load(name: str) -> ModuleType:
    """Import a module of this folder, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


on_cpu, preloaded = _load("on_cpu"), _load("preloaded")
_load("preload_server").read_torchlib_once()
_load("tiny_onnx")
_load("one_stage")
_load("golden")


LONGEST = ("tests/test_family_runs.py", "tests/cli/test_main_job.py", "tests/fuzz/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    """Start the server that forks processes; pytest-xdist's workers find it by its variable."""
    if not hasattr(config, "workerinput") and not config.option.collectonly and preloaded.POSSIBLE:
        config.add_cleanup(preloaded.Server().close)


COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220))
TINY = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cpu")


def write_images(folder: Path, counts: dict[str, int], classes: int = 3, size: int = 16) -> Path:
    """Write ``SPLIT/CLASS/*.png`` (no split folder for the name ''), one noisy colour a class."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for index, colour in enumerate(COLOURS[:classes]):
            place = folder / split / f"class{index}"
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + random.normal(0, 25, (size, size, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02}.png")
    return folder


MakeImages = Callable[..., Path]


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    """Return the function that writes a folder of images."""
    return write_images


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` with 3 x 16 and ``val`` with 3 x 6 pictures of 16 x 16 pixels. Not to be changed."""
    return write_images(tmp_path_factory.mktemp("images") / "colours", {"train": 16, "val": 6})


@pytest.fixture(scope="session")
def data(image_folder: Path) -> DataSet:
    """That folder, opened."""
    return open_data(DataSettings(str(image_folder)))


@pytest.fixture(scope="session")
def teacher_file(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ``resnet8`` trained for one epoch, with their sidecar."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    return train_teacher(data, TeacherSettings(teacher="resnet8", **vars(TINY)), path).path


@pytest.fixture(scope="session")
def teacher(teacher_file: Path, data: DataSet) -> Teacher:
    """That teacher, loaded."""
    return load_teacher(teacher_file, "", data, choose_device("cpu"))


@pytest.fixture(scope="session")
def distilled_artifact(data: DataSet, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A ``shufflenetv2`` distilled from it for one epoch."""
    path = tmp_path_factory.mktemp("distilled") / "distilled.safetensors"
    return distill(data, teacher, DistillSettings(student="shufflenetv2", **vars(TINY)), path)


@pytest.fixture
def distilled(distilled_artifact: Artifact) -> Distilled:
    """That student and its branches, loaded anew for every test."""
    return load_distilled(distilled_artifact)


@pytest.fixture(scope="session")
def finished_run(image_folder: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job on tiny data: one product, fp32 and fp16, no engines. Not to be changed."""
    config = RunSettings(
        data=DataSettings(str(image_folder)),
        teacher=RunTeacher(teacher_weights=str(teacher_file)),
        distill=DistillSettings(student="resnet8", **vars(TINY)),
        products=("imf@1",),
        export=DeploySettings(precisions=("fp32", "fp16"), trt="off"),
    )
    folder = tmp_path_factory.mktemp("finished") / "run"
    distill_and_export(config, folder, "imf-deploy distill-and-export", bench_seconds=0)
    return folder


@pytest.fixture
def images(data: DataSet) -> torch.Tensor:
    """``float32 [18, 3, 16, 16]``: the test images as network input."""
    return data.preprocess.normalize(data.test.fetch(torch.arange(len(data.test))))


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of standard error."""
        return self.err.splitlines()


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run ``imf-deploy ARGUMENTS`` as a user does: another process, in an empty folder.

    In the repository itself, its ``imf_deploy`` folder would hide the installed package.
    """
    place = tmp_path / "cwd"
    place.mkdir()

    def run(*arguments: object, **options: Any) -> Result:
        done = preloaded.run(["-m", "imf_deploy", *map(str, arguments)], cwd=place, **options)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Open a page in a real browser, fail on anything it logs, and return what the browser prints.

    A page that asks the network for anything breaks its own Content-Security-Policy, which is logged.
    """
    if BROWSER is None:
        pytest.skip("chromium is not installed")

    def run(page: Path, *options: str) -> str:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(BROWSER), *BROWSER_FLAGS, profile, *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        return done.stdout

    return run


# Runs every model of a folder on the input beside it, and keeps all outputs.
RUN = """
import sys
from pathlib import Path
import numpy, onnxruntime
found = {}
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: numpy.load(path.with_suffix(".npy"))}
    for value, output in zip(session.get_outputs(), session.run(None, given)):
        found[f"{path.stem}/{value.name}"] = output
numpy.savez(sys.argv[2], **found)
"""


@pytest.fixture(scope="session")
def run_on() -> Callable[[str, Path], dict[str, np.ndarray]]:
    """Run the models of a folder on a processor: ``haswell`` or ``neoverse-n1``, emulated, or ``here``."""
    checked: set[str] = set()

    def run(cpu: str, folder: Path) -> dict[str, np.ndarray]:
        target = folder / f"{cpu}.npz"
        arguments = ["-c", RUN, str(folder), str(target)]
        if cpu == "here":
            command = [sys.executable, *arguments]
        else:
            if reason := on_cpu.why_not(cpu):
                pytest.skip(reason)
            if cpu not in checked:
                on_cpu.check(cpu)
                checked.add(cpu)
            command = on_cpu.emulated(cpu, arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        with np.load(target) as file:
            return dict(file)

    return run
