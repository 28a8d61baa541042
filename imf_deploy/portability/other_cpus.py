"""Run Python with ONNX Runtime as another processor would, its real kernels under user-mode emulation.

``haswell`` runs this interpreter with all of its packages, and needs Debian's ``qemu-user``. ``neoverse-n1``
has NumPy and ONNX Runtime alone. It builds a small ARM root in the user's cache, once, for which it needs
``debootstrap`` and ``unzip``, and root. Only the process itself is emulated: what it starts runs natively.
Before anything else a full-range layer is run, which saturates on ``haswell`` and nowhere else.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CPUS = ("haswell", "neoverse-n1")
_MODELS = {"haswell": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid", "neoverse-n1": "neoverse-n1"}
_SATURATED, _EXACT = 32767 * 2, 255 * 127 * 4
_PACKAGES = ("onnxruntime", "numpy", "flatbuffers", "protobuf", "packaging")
_LIBRARIES = (
    "python3", "libc6", "libstdc", "libgcc", "zlib", "expat", "ssl", "ffi", "gomp", "mpdec", "sqlite", "bz2",
    "lzma", "uuid",
)  # fmt: skip
_CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c

"""
# Four weights of 127 meet four activations of 255.
_CHECK = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(int(session.run(None, {"x": numpy.full((1, 4), 255, numpy.uint8)})[0][0, 0]))
"""


def why_not(cpu: str) -> str:
    """Return what this machine lacks to emulate a processor; empty if nothing is missing."""
    if sys.platform != "linux":
        return "emulation needs Linux"
    needed = ["qemu-x86_64"] if cpu == "haswell" else ["qemu-aarch64", "debootstrap", "unzip", "dpkg"]
    if cpu != "haswell" and (_arm_root() / "done").is_file():
        needed = needed[:1]
    missing = [name for name in needed if not shutil.which(name)]
    return f"{', '.join(missing)} is not installed" if missing else ""


def emulated(cpu: str, arguments: list[str]) -> list[str]:
    """Return the command that runs Python with some arguments as a processor would.

    Args:
        cpu: One of :data:`CPUS`.
        arguments: Of Python: a script, ``-m MODULE`` or ``-c CODE``, and what follows.
    """
    if cpu == "haswell":
        return ["qemu-x86_64", "-cpu", _MODELS[cpu], sys.executable, *arguments]
    root = _arm_root()
    if not (root / "done").is_file():
        _build_arm_root(root)
    return [
        "qemu-aarch64", "-cpu", _MODELS[cpu], "-L", str(root / "prefix"),
        "-E", "OPENBLAS_CORETYPE=ARMV8", "-E", f"PYTHONPATH={root / 'site'}",
        str(root / "debian/usr/bin/python3.11"), "-S", *arguments,
    ]  # fmt: skip


def check(cpu: str) -> None:
    """Run a layer with full-range weights and compare its sum with what the processor has to answer.

    Raises:
        RuntimeError: the emulation computes like another processor.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((4, 16), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "full_range",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", 16])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full_range.onnx"
        onnx.save(model, path)
        done = subprocess.run(  # noqa: S603
            emulated(cpu, ["-c", _CHECK, str(path)]), capture_output=True, text=True, check=False
        )
    expected = _SATURATED if cpu == "haswell" else _EXACT
    if done.returncode or done.stdout.split() != [str(expected)]:
        raise RuntimeError(
            f"the emulated {cpu} sums to {done.stdout.strip() or done.stderr[-500:]}, not {expected}"
        )


def _arm_root() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imf-deploy-other-cpus"
    return cache / f"arm64-{importlib.metadata.version('onnxruntime')}-{importlib.metadata.version('numpy')}"


def _build_arm_root(root: Path) -> None:
    """Unpack Python for ARM64 from Debian, and ONNX Runtime for it from PyPI; neither is run here."""
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("site", "wheels", "prefix/proc", "prefix/sys/devices/system/cpu"):
        (root / folder).mkdir(parents=True)
    debian = root / "debian"
    include = "--include=python3,libstdc++6,libgomp1"
    debootstrap = [
        "debootstrap",
        "--arch=arm64",
        "--foreign",
        "--variant=minbase",
        include,
        "bookworm",
        str(debian),
    ]
    subprocess.run(debootstrap, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    for package in debian.rglob("*.deb"):
        if any(name in package.name for name in _LIBRARIES):
            subprocess.run(["dpkg", "-x", str(package), str(debian)], check=True)  # noqa: S603, S607
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "2014")]
    for name in _PACKAGES:
        wanted = f"{name}=={importlib.metadata.version(name)}"
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        python = ["--python-version=3.11", "--implementation=cp"]
        subprocess.run([*download, *python, *platforms, "-d", str(root / "wheels"), wanted], check=True)  # noqa: S603
    for wheel in (root / "wheels").glob("*.whl"):
        subprocess.run(["unzip", "-oq", str(wheel), "-d", str(root / "site")], check=True)  # noqa: S603, S607
    # qemu looks for absolute paths here first. ONNX Runtime reads the processor's features from /proc and
    # fails on those of another architecture.
    for folder in ("usr", "lib", "bin", "etc"):
        (root / "prefix" / folder).symlink_to(debian / folder)
    (root / "prefix/proc/cpuinfo").write_text(_CPUINFO)
    for name in ("possible", "present", "online"):
        (root / "prefix/sys/devices/system/cpu" / name).write_text("0\n")
    (root / "done").touch()
