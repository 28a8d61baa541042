"""Open the runs to compare, with their files, and report what keeps them from being comparable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.records.report import ArtifactRow, Report, read_report
from imf_deploy.report.verdict import is_trial
from imf_deploy.show.format import plain

# Only the versions of the libraries that run the files.
_RUNTIMES = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx")
_NOT_CONDITIONS = ("time", "load_average", "versions")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: Unique name: the folder's name, or its path if two runs share a name.
        path: Its ``report.json``.
        report: Content of the report.
    """

    name: str
    path: Path
    report: Report

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions of its latencies, by name, in words."""
        environment = self.report.environment
        relevant = {key: value for key, value in environment.items() if key not in _NOT_CONDITIONS}
        versions = environment.get("versions")
        if isinstance(versions, dict):
            relevant |= {name: versions.get(name) for name in _RUNTIMES}
        timed = [row for row in self.report.artifacts if row.latency_ms]
        for key in ("threads", "batch"):
            relevant[key] = sorted({value for row in timed if (value := getattr(row, key)) is not None})
        return {key: plain(value) for key, value in relevant.items()}


def open_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the reports of runs.

    Args:
        paths: Folders of runs, or their ``report.json`` files.

    Raises:
        UsageError: one is missing or listed twice, or they were tested on different data sets.
        ImfDeployError: a report is damaged, is not a report, or was written by a newer version.
    """
    reports = [_report_path(path) for path in paths]
    for place, path in enumerate(reports):
        if path.resolve() in [other.resolve() for other in reports[:place]]:
            raise UsageError(f"{path} is given twice", "Name every run once")
    short = [path.resolve().parent.name if path.name == "report.json" else path.stem for path in reports]
    names = [
        name if name and short.count(name) == 1 else str(path)
        for name, path in zip(short, reports, strict=True)
    ]
    runs = [Run(name, path, read_report(path)) for name, path in zip(names, reports, strict=True)]
    _check_data(runs)
    return runs


def _report_path(path: Path) -> Path:
    if not path.is_dir():
        return path
    report = path / "report.json"
    if not report.is_file():
        raise UsageError(
            f"{path} holds no report.json: no run has finished there",
            "Run distill-and-export to its end, or see imf-deploy inspect",
        )
    return report


def _check_data(runs: Sequence[Run]) -> None:
    """Refuse runs on different data, whose accuracies cannot be compared."""
    first = runs[0]
    for run in runs[1:]:
        for called, ours, theirs in (
            ("data", first.report.dataset, run.report.dataset),
            ("test images", first.report.config.get("test_images"), run.report.config.get("test_images")),
        ):
            if ours != theirs:
                raise UsageError(
                    f"{first.name} and {run.name} were tested on different {called} ({ours} and {theirs})",
                    "Compare runs on one data set",
                )


def warnings(runs: Sequence[Run]) -> list[str]:
    """Return what readers of the comparison must know about its runs, in sentences."""
    sentences = []
    first = runs[0]
    for run in runs[1:]:
        if differing := differences(first, run):
            listed = "; ".join(f"{name}: {ours} and {theirs}" for name, ours, theirs in differing)
            sentences.append(
                f"Latencies of {first.name} and {run.name} are not comparable: they were measured under "
                f"different conditions ({listed}). imf-deploy bench measures their files on one machine."
            )
        prints = [one.report.config.get("data_fingerprint") for one in (first, run)]
        if all(prints) and prints[0] != prints[1]:
            sentences.append(
                f"{first.name} and {run.name} used other images or another split of "
                f"{run.report.dataset}: their accuracies are not for the same images."
            )
    if len(runs) > 1 and not sentences:
        sentences.append(
            "The runs were timed one after the other: imf-deploy bench measures two files in the same rounds."
        )
    if len({row.gate for run in runs for row in run.report.artifacts}) > 1:
        sentences.append(
            "The files were judged by different gates: one that passed might miss the gate of another run."
        )
    trials = [run.name for run in runs if is_trial(run.report)]
    return [f"{name} is a trial (--quick): its accuracies are not a result." for name in trials] + sentences


def timed_alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in groups whose latencies were measured under the same conditions."""
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if not differences(group[0], run)), None)
        if group is None:
            groups.append(group := [])
        group.append(run)
    return groups


def differences(one: Run, other: Run) -> list[tuple[str, str, str]]:
    """Return the conditions that differ between two runs, with both values."""
    ours, theirs = one.conditions, other.conditions
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = [(name, ours.get(name, plain(None)), theirs.get(name, plain(None))) for name in names]
    return [(name, a, b) for name, a, b in pairs if a != b]


LATENCY, SIZE = "latency", "size"


@dataclass(frozen=True)
class Entry:
    """One file of one run.

    Attributes:
        run: Its run.
        row: Its measurements.
        fronts: ``latency`` and ``size``, if no other file is as accurate on validation images at a lower
            cost, or more accurate at the same cost.
    """

    run: Run
    row: ArtifactRow
    fronts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Run and path, which are unique."""
        return f"{self.run.name}/{self.row.path}"

    @property
    def judged(self) -> bool:
        """Whether it passed and has a validation accuracy."""
        return self.row.status == "pass" and self.row.validation_accuracy is not None

    @property
    def candidate(self) -> bool:
        """Whether it can be recommended: it passed, was timed, and has a validation accuracy."""
        return self.judged and bool(self.row.latency_ms)
