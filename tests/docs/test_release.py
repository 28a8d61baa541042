"""Wheel and source archive: the same bytes from every build, and whole."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from imf_deploy import __version__

REPOSITORY = Path(__file__).parents[2]


def test_builds_are_reproducible_and_whole(tmp_path: Path) -> None:
    script = str(REPOSITORY / "docs" / "build_twice.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path / "dist")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    assert wheel.name == f"imf_deploy-{__version__}-py3-none-any.whl"
    code = {
        f"imf_deploy/{path.relative_to(folder)}" if folder.name == "imf_deploy"
        else f"imf_deploy/{path.relative_to(REPOSITORY)}"
        for folder in (REPOSITORY / "imf_deploy", REPOSITORY / "export", REPOSITORY / "calib")
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }  # fmt: skip
    with zipfile.ZipFile(wheel) as file:
        assert code <= set(file.namelist())
        file.extractall(tmp_path / "installed")
    with tarfile.open(archive) as old:
        names = {name.partition("/")[2] for name in old.getnames()}
    assert {"CHANGELOG.md", "docs/tutorial.md", "tests/conftest.py", "calib/quantize.py"} <= names
    version = subprocess.run(
        [sys.executable, "-c", "from imf_deploy.cli import main; main()", "--version"],
        cwd=tmp_path / "installed", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert version.stdout.strip() == __version__
