"""Ranges stored in a JSON file, so that they are measured once for both targets and any gate."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from imf_deploy.calib.ranges import Ranges
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import fingerprint, read_json, write_json

SCHEMA = 2
_PARTS = {
    "model": "another model",
    "images": "other images",
    "preprocess": "other preprocessing",
    "method": "another method",
}


@dataclass(frozen=True)
class CacheKey:
    """The key of stored ranges.

    Attributes:
        model: SHA-256 of the float ONNX file and of its weights in other files.
        images: SHA-256 of the calibration images.
        preprocess: Fingerprint of the preprocessing: mean and deviation affect every range.
        method: The method that chose the ranges, with its parameters.
    """

    model: str
    images: str
    preprocess: str
    method: str

    def path(self, folder: Path) -> Path:
        """Return the path of ranges with this key in a folder of caches."""
        return folder / f"ranges-{fingerprint(asdict(self))[:16]}.json"


def cached_ranges(path: Path, key: CacheKey, measure: Callable[[], Ranges]) -> Ranges:
    """Return the ranges at ``path``, or measure and store them.

    Args:
        path: The cache file.
        key: The key that the ranges must have.
        measure: Called if the file does not exist.

    Raises:
        UsageError: the file belongs to another model, other images, other preprocessing or another method.
        ImfDeployError: the file is damaged, or cannot be written.
    """
    if path.is_file():
        return _read(path, key)
    ranges = measure()
    content = {"schema": SCHEMA, **asdict(key), "ranges": {name: list(ends) for name, ends in ranges.items()}}
    write_json(path, content)
    return ranges


def _read(path: Path, key: CacheKey) -> Ranges:
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise ImfDeployError(f"{path} is not a calibration cache of this version", "Delete it")
    for name, called in _PARTS.items():
        if content.get(name) != getattr(key, name):
            raise UsageError(
                f"the calibration cache {path} belongs to {called}", "Use another `cache`, or delete it"
            )
    try:
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in content["ranges"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImfDeployError(f"the calibration cache {path} is damaged", "Delete it") from error
    if not all(low <= 0 <= high for low, high in ranges.values()):
        raise ImfDeployError(f"the calibration cache {path} is damaged", "Delete it")
    return ranges
