"""Quantise the same fp32 files with the same images by other tools and by imf-deploy, and compare them.

    python benchmarks/peers.py FOLDER mobilenetv2-plain-fp32.onnx mobilenetv2-imf@1-fp32.onnx

Each tool has an environment of its own in ``FOLDER/environments``, with what its script in
``benchmarks/peers/`` needs. The files are kept in ``FOLDER/made``, and a tool that has finished is not run
again (``--again TOOL`` does). A tool that fails is reported, and left out. Then every file runs on the test
images in ONNX Runtime and in OpenVINO, and all files of a network are timed together in alternating rounds,
on one thread at batch 1. The tables are printed and written to ``FOLDER/peers.md``.

``--cpu haswell`` adds the agreement on an emulated processor (see ``tests/on_cpu.py``). ``--share PATH`` lets
the environments use the packages of a ``site-packages`` folder, such as PyTorch, instead of fetching them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from peers.measure import Row, measure_files, table

from imf_deploy.artifact import load_artifact
from imf_deploy.benchmark.conditions import conditions
from imf_deploy.compat import cpu_model
from imf_deploy.data import DataSet, reopen_data
from imf_deploy.data.choice import choose_images
from imf_deploy.files import read_json, sha256_file, write_json
from imf_deploy.records.files import OnnxFile

SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Tool:
    """A tool that quantises ONNX files.

    Attributes:
        script: Name of its script.
        requirements: Packages that the script needs; empty for this environment.
        package: Package whose version is shown.
        rows: Stem of each file that the script may write, and the name of its row.
        shares: Whether its environment may use the packages of ``--share``.
    """

    script: str
    requirements: tuple[str, ...]
    package: str
    rows: dict[str, str]
    shares: bool = True


TOOLS = {
    "ours": Tool("ours", (), "imf-deploy", {"defaults": "imf-deploy", "best": "imf-deploy, --effort best"}),
    "onnxruntime": Tool(
        "onnxruntime_static",
        (),
        "onnxruntime",
        {
            "defaults": "onnxruntime, defaults",
            "advice-8-bits": "onnxruntime, as documented, for VNNI",
            "advice-7-bits": "onnxruntime, as documented, for AVX2",
        },
    ),
    "optimum": Tool(
        "optimum_static",
        ("optimum-onnx[onnxruntime]",),
        "optimum-onnx",
        {"avx512-vnni": "Optimum, AVX512-VNNI", "avx2": "Optimum, AVX2 (U8U8)"},
    ),
    "nncf": Tool(
        "nncf_static",
        ("nncf", "openvino", "onnx"),
        "nncf",
        {"defaults": "NNCF, ONNX", "openvino": "NNCF, OpenVINO"},
    ),
    "modelopt": Tool(
        "modelopt_static",
        ("nvidia-modelopt[onnx]",),
        "nvidia-modelopt",
        {"max": "ModelOpt, max", "entropy": "ModelOpt, entropy"},
    ),
    "neural-compressor": Tool(
        "neural_compressor_static",
        ("neural-compressor==2.6", "onnx==1.16.2", "onnxruntime==1.20.1", "numpy<2", "setuptools<81",
         "onnxruntime-extensions"),
        "neural-compressor",
        {"defaults": "Neural Compressor"},
        shares=False,
    ),
}  # fmt: skip


def python_of(tool: Tool, name: str, folder: Path, share: Path | None) -> tuple[Path, str]:
    """Return the Python that runs a tool's script, made on first use, and the version of the tool."""
    python = Path(sys.executable)
    if tool.requirements:
        place = folder / "environments" / name
        python = place / "bin" / "python"
        if not (place / "complete").is_file():
            venv.create(place, with_pip=True, clear=True)
            if share and tool.shares:
                site = next(place.glob("lib/python*/site-packages"))
                (site / "shared.pth").write_text(f"{share}\n")
            run([python, "-m", "pip", "install", "-q", *tool.requirements], place / "install.log")
            (place / "complete").touch()
    code = f"from importlib.metadata import version; print(version({tool.package!r}))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return python, asked.stdout.strip()


def run(command: list[object], log: Path) -> None:
    """Run a command with its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        subprocess.run(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, check=True)


def quantise(
    source: Path, images: Path, folder: Path, names: list[str], given: argparse.Namespace
) -> dict[str, str]:
    """Let each tool write its files of one network; return the version of each tool, or why it failed."""
    state: dict[str, str] = {}
    for name in names:
        tool, place = TOOLS[name], folder / "made" / source.stem / name
        done = place / "done.json"
        known = read_json(done) if done.is_file() and name not in given.again else {}
        inputs = {"source": sha256_file(source), "images": given.images}
        if known and inputs.items() <= known.items():
            state[name] = str(known["version"])
            continue
        print(f"{source.stem}: {name}", file=sys.stderr, flush=True)
        try:
            place.mkdir(parents=True, exist_ok=True)
            python, version = python_of(tool, name, folder, given.share)
            run([python, SCRIPTS / f"{tool.script}.py", source, images, place], place / "run.log")
        except (subprocess.CalledProcessError, OSError) as error:
            state[name] = f"failed ({type(error).__name__}), see {place}"
            print(f"{name}: {state[name]}", file=sys.stderr)
            continue
        write_json(done, inputs | {"version": version})
        state[name] = version
    return state


def rows_of(source: Path, folder: Path, names: list[str]) -> list[Row]:
    """Return the rows of one network: the fp32 file, and the files that the tools wrote."""
    rows = [Row("fp32", source)]
    for name in names:
        place = folder / "made" / source.stem / name
        if (place / "done.json").is_file():
            for stem, label in TOOLS[name].rows.items():
                rows += [
                    Row(label, path)
                    for path in sorted(place.glob(f"{stem}.*"))
                    if path.suffix in (".onnx", ".xml")
                ]
    return rows


def inputs_of(data: DataSet, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return calibration and test images as network input, ``float32 [N, C, H, W]``, and the test labels."""
    train = choose_images(data.train, count, 0)
    prepared = [
        np.ascontiguousarray(data.preprocess.normalize(split.fetch(torch.arange(len(split)))).numpy())
        for split in (train, data.test)
    ]
    return prepared[0], prepared[1], data.test.labels.numpy()


def main() -> None:
    """Read the command line, run the tools, and print a table for each network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="+", help="fp32 ONNX files of imf-deploy, with records")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--again", nargs="*", default=[], choices=TOOLS, help="tools to run again")
    parser.add_argument("--images", type=int, default=512, help="calibration images")
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of a file; 0 times none")
    parser.add_argument("--cpu", choices=("haswell", "neoverse-n1"), help="emulated processor")
    parser.add_argument("--share", type=Path, help="site-packages folder that the environments may use")
    given = parser.parse_args()
    folder, names = given.folder.resolve(), given.tools.split(",")
    works = []
    for source in (path.resolve() for path in given.files):
        data = reopen_data(load_artifact(source, OnnxFile).data_config or {})
        calibration, test, labels = inputs_of(data, given.images)
        images = folder / "made" / source.stem / "calibration.npy"
        images.parent.mkdir(parents=True, exist_ok=True)
        np.save(images, calibration)
        works.append((source, test, labels, quantise(source, images, folder, names, given)))
    pages = []
    for source, test, labels, state in works:
        load = conditions(1)["load_average"]
        rows = measure_files(rows_of(source, folder, names), test, labels, given.seconds, given.cpu)
        versions = ", ".join(f"{name} {version}" for name, version in state.items())
        pages.append(
            f"### {source.stem}\n\n{table(rows, given.cpu)}\n\n{date.today().isoformat()}, {cpu_model()}, "
            f"load {load}; {given.images} calibration and {len(test)} test images; {versions}\n"
        )
        print(pages[-1], flush=True)
        (folder / "peers.md").write_text("\n".join(pages))


if __name__ == "__main__":
    main()
