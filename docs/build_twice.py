"""Build wheel and source archive twice, and fail if the bytes differ.

.venv-test/bin/python docs/build_twice.py dist
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = "315532800"
"""Time of all files, in seconds since 1970: the first that a zip archive can hold."""


def copy_tracked(target: Path) -> None:
    """Copy the files of the repository that git does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, found.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def build(source: Path, output: Path) -> None:
    """Build the two files from a folder, which is changed, with the packages that are installed."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)],
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    for archive in output.glob("*.tar.gz"):
        archive.write_bytes(level(archive.read_bytes()))


def level(archive: bytes) -> bytes:
    """Return a source archive in a fixed order, without the times and owners that come from the disk."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile("", "wb", 9, written, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = int(EPOCH), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return written.getvalue()


def build_twice(output: Path) -> dict[str, str]:
    """Build twice; return the SHA-256 of each file.

    Raises:
        SystemExit: the two differ.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        copy_tracked(Path(place) / "source")
        shutil.copytree(Path(place) / "source", Path(place) / "again")
        builds = []
        for name, source in (("first", "source"), ("second", "again")):
            build(Path(place) / source, Path(place) / name)
            builds.append(
                {p.name: sha256(p.read_bytes()).hexdigest() for p in sorted((Path(place) / name).iterdir())}
            )
        if builds[0] != builds[1]:
            sys.exit(f"the builds differ: {builds}")
        for name in builds[0]:
            shutil.copyfile(Path(place) / "first" / name, output / name)
    return builds[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write wheel and source archive")
    for file, digest in build_twice(parser.parse_args().folder).items():
        sys.stdout.write(f"{digest}  {file}\n")
