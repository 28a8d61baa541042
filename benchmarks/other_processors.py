"""Run INT8 ONNX files on emulated processors and compare their logits with this machine's.

    python benchmarks/other_processors.py haswell FILE.onnx … [--images 200]
    python benchmarks/other_processors.py neoverse-n1 FILE.onnx … [--images 200]

The kernels of ONNX Runtime run under user-mode emulation (see ``tests/on_cpu.py``), on images of the embedded
test split. The script prints the fraction of images that keep their class and the largest difference of a
logit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from imf_deploy.data import open_data
from imf_deploy.settings import DataSettings

LAUNCHER = Path(__file__).parents[1] / "tests" / "on_cpu.py"
RUN = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
images, found = numpy.load(sys.argv[1]), {}
for path in sys.argv[3:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found[path] = session.run(["logits"], {"images": images})[0]
numpy.savez(sys.argv[2], **found)
"""


def main() -> None:
    """Read the command line, run the files here and under emulation, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cpu", choices=("haswell", "neoverse-n1"))
    parser.add_argument("files", nargs="+")
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    data = open_data(DataSettings())
    pixels = data.test.fetch(torch.arange(given.images))
    with tempfile.TemporaryDirectory() as folder:
        script, images = Path(folder) / "run.py", Path(folder) / "images.npy"
        script.write_text(RUN)
        np.save(images, np.ascontiguousarray(data.preprocess.normalize(pixels).numpy()))
        found = []
        for launcher in ([], [str(LAUNCHER), given.cpu]):
            target = Path(folder) / f"{len(launcher)}.npz"
            command = [sys.executable, *launcher, str(script), str(images), str(target), *given.files]
            subprocess.run(command, check=True)
            with np.load(target) as answers:
                found.append(dict(answers))
    here, there = found
    for path in given.files:
        same = float((here[path].argmax(1) == there[path].argmax(1)).mean())
        print(f"{path}: {same:.2%} keep their class, difference {np.abs(here[path] - there[path]).max():.2g}")


if __name__ == "__main__":
    main()
