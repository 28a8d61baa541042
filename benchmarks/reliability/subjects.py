"""The files that imf-deploy reads, made by a tiny run, and the commands that read each of them."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import mutate
import numpy as np
from PIL import Image

Words = tuple[str, ...]
RUN = "run/deploy/resnet8-imf@1"
PRODUCT = "run/products/resnet8-imf@1.safetensors"
_GATE = ("--max-accuracy-drop", "100", "--min-agreement", "0", "--keep-int8")
_TINY = ("--epochs", "1", "--device", "cpu", "--batch-size", "8")
TEACHER = ("train-teacher", "--teacher", "resnet8", *_TINY, "--output", "new/t.safetensors")
_DISTILL = ("distill", "--data", "data", "--student", "resnet8", *_TINY, "--output", "new")
CALIBRATE = ("calibrate", f"{RUN}-fp32.onnx", "--images", "8", *_GATE, "--output", "new")
_VERIFY = ("verify", f"{RUN}-fp32.onnx", "--against", PRODUCT)
_BENCH = ("--duration", "0.01", "--iterations", "1", "--warmup", "0", "--loads", "1", "--no-startup")
MAIN_JOB = (
    "distill-and-export", "--data", "data", "--teacher", "resnet8", "--teacher-epochs", "1",
    "--student", "resnet8", "--epochs", "1", "--products", "imf@1", "--precisions", "fp32,int8",
    "--bench-seconds", "0", "--device", "cpu", *_GATE, "--output", "run",
)  # fmt: skip
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
TRT = ("--trt", "rtx", "--compute-capability", "86")


@dataclass(frozen=True)
class Subject:
    """One type of file.

    Attributes:
        name: Its name in the table.
        path: The file that is damaged, in the folder of a case.
        mutations: Ways to damage it, each used equally often.
        commands: Command lines that read it.
        sealed: Whether half of the damaged files get a record with their hash, so that reading continues.
    """

    name: str
    path: str
    mutations: tuple[mutate.Mutation, ...]
    commands: tuple[Words, ...]
    sealed: bool = False


_JSON = (mutate.damage, mutate.damage_json, mutate.damage_json, mutate.damage_json)
_WEIGHTS = (mutate.damage, mutate.damage_safetensors, mutate.damage_safetensors)

SUBJECTS = (
    Subject(
        "ONNX file", f"{RUN}-fp32.onnx", (mutate.damage, mutate.damage_onnx, mutate.damage_onnx),
        (("inspect", f"{RUN}-fp32.onnx"), _VERIFY, CALIBRATE, ("bench", f"{RUN}-fp32.onnx", *_BENCH)),
        True,
    ),
    Subject(
        "ONNX file without a record", "alone.onnx", (mutate.damage, mutate.damage_onnx, mutate.damage_onnx),
        (
            ("inspect", "alone.onnx"), ("bench", "alone.onnx", *_BENCH),
            ("calibrate", "alone.onnx", "--data", "data", "--images", "8", *_GATE, "--output", "new"),
        ),
    ),
    Subject(
        "record of an ONNX file", f"{RUN}-fp32.onnx.json", _JSON,
        (("inspect", f"{RUN}-fp32.onnx"), ("inspect", f"{RUN}-fp32.onnx.json"), _VERIFY, CALIBRATE,
         ("bench", f"{RUN}-fp32.onnx", *_BENCH)),
    ),
    Subject(
        "weights of a product", PRODUCT, _WEIGHTS,
        (("inspect", PRODUCT), _VERIFY, ("bench", PRODUCT, *_BENCH),
         ("export", PRODUCT, "--precisions", "fp32", "--trt", "off", *_GATE, "--output", "new")), True,
    ),
    Subject(
        "record of a product", f"{PRODUCT}.json", _JSON,
        (("inspect", PRODUCT), _VERIFY, ("bench", PRODUCT, *_BENCH),
         ("export", PRODUCT, "--precisions", "fp32", "--trt", "off", *_GATE, "--output", "new")),
    ),
    Subject(
        "weights of a distillation", "run/distilled.safetensors", _WEIGHTS,
        (("inspect", "run/distilled.safetensors"), ("strip", "run/distilled.safetensors", "--output", "new")),
        True,
    ),
    Subject(
        "record of a distillation", "run/distilled.safetensors.json", _JSON,
        (("inspect", "run/distilled.safetensors"), ("strip", "run/distilled.safetensors", "--output", "new")),
    ),
    Subject(
        "weights of a teacher", "run/teacher.safetensors", _WEIGHTS,
        ((*_DISTILL, "--teacher-weights", "run/teacher.safetensors"),), True,
    ),
    Subject(
        "record of a teacher", "run/teacher.safetensors.json", _JSON,
        ((*_DISTILL, "--teacher-weights", "run/teacher.safetensors"),),
    ),
    Subject(
        "checkpoint of PyTorch", "teacher.pt", (mutate.damage,),
        ((*_DISTILL, "--teacher", "resnet8", "--teacher-weights", "teacher.pt"), ("inspect", "teacher.pt")),
    ),
    Subject(
        "unfinished training", "half/t.checkpoint", _WEIGHTS,
        (("inspect", "half/t.checkpoint"),
         ("train-teacher", "--data", "data", "--teacher", "resnet8", "--epochs", "2", "--device", "cpu",
          "--batch-size", "8", "--output", "half/t.safetensors")),
    ),
    Subject("report", "run/report.json", _JSON,
            (("inspect", "run"), ("compare", "run", "--html", "new.html", "--json", "new.json"),
             ("inspect", "run/report.json"))),
    Subject("record of a run", "run/run.json", _JSON, (("inspect", "run"), (*MAIN_JOB, "--trt", "off"))),
    Subject(
        "options", "run/config.yaml", (mutate.damage, mutate.damage_text, mutate.damage_text),
        (("doctor", "--config", "run/config.yaml"), ("inspect", "run"),
         ("distill-and-export", "--config", "run/config.yaml", "--data", "nowhere", "--output", "new")),
    ),
    Subject("calibration cache", "ranges.json", _JSON, ((*CALIBRATE, "--cache", "ranges.json"),)),
    Subject("preprocessing", "preprocess.json", _JSON,
            (("calibrate", "alone.onnx", "--data", "data", "--images", "8", *_GATE, "--output", "new",
              "--preprocess", "preprocess.json"),)),
    Subject("shard", "shards/train-0.tar", (mutate.damage, mutate.damage_tar, mutate.damage_tar),
            ((*TEACHER, "--data", "shards/{train,val}-0.tar"),)),
    Subject("image", "data/train/class0/00.png", (mutate.damage,), ((*TEACHER, "--data", "data"),)),
    Subject("engine", f"{RUN}-fp32-sm86.engine", (mutate.damage,),
            (("inspect", f"{RUN}-fp32-sm86.engine"), ("bench", f"{RUN}-fp32-sm86.engine", *_BENCH),
             ("verify", f"{RUN}-fp32-sm86.engine", "--against", PRODUCT)), True),
    Subject("record of an engine", f"{RUN}-fp32-sm86.engine.json", _JSON,
            (("inspect", f"{RUN}-fp32-sm86.engine"), ("bench", f"{RUN}-fp32-sm86.engine", *_BENCH),
             ("verify", f"{RUN}-fp32-sm86.engine", "--against", PRODUCT))),
)  # fmt: skip


def subjects() -> tuple[Subject, ...]:
    """Return the types of files that can be made here: engines need TensorRT-RTX."""
    return tuple(subject for subject in SUBJECTS if HAS_RTX or ".engine" not in subject.path)


def imf(arguments: Words, place: Path, **options: object) -> subprocess.Popen[bytes]:
    """Start a command in a folder, on one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "imf_deploy", *arguments],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        **options,  # type: ignore[call-overload]  # whatever Popen takes
    )


def write_data(place: Path) -> None:
    """Write ``data`` (3 classes, 16 training and 6 validation images each), and the same as shards."""
    random = np.random.default_rng(0)
    (place / "shards").mkdir()
    for split, count in (("train", 16), ("val", 6)):
        with tarfile.open(place / "shards" / f"{split}-0.tar", "w") as archive:
            for label in range(3):
                folder = place / "data" / split / f"class{label}"
                folder.mkdir(parents=True)
                for number in range(count):
                    colour = np.full(3, 40)
                    colour[label] = 220
                    pixels = np.clip(colour + random.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:02}.png")
                    content = (folder / f"{number:02}.png").read_bytes()
                    _add(archive, f"{label}{number:02}.png", content)
                    _add(archive, f"{label}{number:02}.cls", str(label).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
