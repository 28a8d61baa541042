"""What is packaged: a file of a finished run, its product, and ten test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, reopen_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import OnnxFile
from imf_deploy.records.report import ArtifactRow, Report, read_report
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.package import PackageSettings

IMAGES = 10
"""Number of test vectors."""


@dataclass(frozen=True)
class Source:
    """A file of a run, with everything that a package says about it.

    Attributes:
        run: Folder of the run.
        report: Its report.
        row: The row of the file in the report.
        file: The record of the file, which has float input and logits.
        others: Records of the same product's other ONNX files that passed, by precision.
        data: The run's data.
    """

    run: Path
    report: Report
    row: ArtifactRow
    file: OnnxFile
    others: dict[str, OnnxFile]
    data: DataSet

    @property
    def preprocess(self) -> Preprocess:
        """How images become the network's input."""
        return self.file.preprocess

    @property
    def name(self) -> str:
        """Name of the network in folders and cards, such as ``mobilenetv2-plain``."""
        return self.file.path.stem.rpartition(f"-{self.file.precision}")[0]

    def origin_of(self, file: OnnxFile) -> OnnxFile:
        """Return the file of the run that a packaged file was made from, or is a copy of."""
        return self.others.get(file.precision, self.file)

    def normalised(self) -> npt.NDArray[np.float32]:
        """Return the test vectors as the network's float input, ``float32 [10, C, H, W]``."""
        count = min(IMAGES, len(self.data.test))
        chosen = torch.linspace(0, len(self.data.test) - 1, count).round().long()
        images = self.preprocess.normalize(self.data.test.fetch(chosen))
        return np.ascontiguousarray(images.contiguous().numpy())

    def labels(self) -> list[int]:
        """Return the correct classes of the test vectors."""
        count = min(IMAGES, len(self.data.test))
        chosen = torch.linspace(0, len(self.data.test) - 1, count).round().long()
        return [int(label) for label in self.data.test.labels[chosen]]


def open_source(
    run: Path,
    wanted: PackageSettings,
    place: PlaceSettings,
    allowed: Sequence[str] = ("fp32", "fp16", "int8"),
) -> Source:
    """Read the file of a run to package, and open its data.

    Args:
        run: Folder of a finished run.
        wanted: The product and precision to package.
        place: Where the data is, if it was moved.
        allowed: Precisions that the package can have.

    Raises:
        UsageError: the folder is not a finished run, has no such file, or the file missed its gate.
        ImfDeployError: a record is damaged, or the data cannot be opened.
    """
    if not run.is_dir():
        raise UsageError(
            f"there is no folder {run}", "Give the output folder of imf-deploy distill-and-export"
        )
    report = read_report(run / "report.json")
    row = _choose(run, report, wanted, allowed)
    _check_status(row, wanted.allow_failed)
    file = load_artifact(run / row.path, OnnxFile)
    if file.sha256 != row.sha256:
        raise ImfDeployError(f"{file.path} was made after the report", "Run the same command again")
    others = {
        other.precision: load_artifact(run / other.path, OnnxFile)
        for other in _candidates(report)
        if other.product == row.product and (other.status == "pass" or other is row)
    }
    data = reopen_data(file.data_config, place.data, place.data_root, place.labels)
    if data.preprocess != file.preprocess:
        raise UsageError(
            f"{data.name} has other preprocessing than {file.path}", "Use the data that the run was made with"
        )
    return Source(run, report, row, file, others, data)


def _candidates(report: Report) -> list[ArtifactRow]:
    """Return the ONNX files that every runtime may load."""
    return [row for row in report.artifacts if row.format == "onnx" and not row.path.endswith("-trt.onnx")]


def _choose(run: Path, report: Report, wanted: PackageSettings, allowed: Sequence[str]) -> ArtifactRow:
    rows = _candidates(report)
    products = list(dict.fromkeys(row.product for row in rows))
    recommended = next(
        (row for row in rows if report.recommendation and row.path == report.recommendation.path), None
    )
    product = wanted.product or (recommended.product if recommended else next(iter(products), ""))
    own = {row.precision: row for row in rows if row.product == product}
    if not own:
        raise UsageError(
            f"{run} has no ONNX file of the product '{product}'", f"Use `product` {' or '.join(products)}"
        )
    best = recommended.precision if recommended and recommended.product == product else "fp32"
    precision = wanted.precision or (best if best in allowed else "fp32")
    if precision not in allowed:
        raise UsageError(f"this package cannot have `precision` {precision}", f"Use {' or '.join(allowed)}")
    if precision not in own:
        raise UsageError(
            f"{run} has no {precision} ONNX file of {product}", f"Use `precision` {' or '.join(own)}"
        )
    return own[precision]


def _check_status(row: ArtifactRow, allow_failed: bool) -> None:
    if row.status == "pass" or allow_failed:
        return
    raise UsageError(
        f"{row.path} {'missed its gate' if row.status == 'fail' else 'was not verified'}: {row.reason}",
        "Use another `product` or `precision`, or `allow_failed`",
    )
