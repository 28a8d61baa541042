"""``imf_deploy.write_report``."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from imf_deploy.api.data import Data, as_split, data_set
from imf_deploy.api.modules import as_product
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.products import FileLatency
from imf_deploy.benchmark.result import BenchResult
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import UsageError
from imf_deploy.method.products import Product
from imf_deploy.records.files import DeployableFile
from imf_deploy.records.report import Report
from imf_deploy.report.assemble import report_of
from imf_deploy.report.html import write_report as write
from imf_deploy.verification.stage import measure_accuracy


def write_report(
    folder: str | Path,
    files: Sequence[DeployableFile],
    networks: Sequence[Product | nn.Module] = (),
    *,
    bench: BenchResult | None = None,
    validation: Data | None = None,
    distilled: Distilled | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Write ``report.json``, ``report.html`` and ``report.md`` about verified files.

    Example:
        >>> checked = imf_deploy.verify(["net-fp32.onnx", "net-int8.onnx"], against=net, data=test_loader)
        >>> imf_deploy.write_report("out", checked, [net], bench=imf_deploy.bench([net, *checked]))

    Args:
        folder: Output folder.
        files: Results of :func:`imf_deploy.verify`.
        networks: The networks that the files were made from; their proofs of stripping are in the report.
        bench: Result of :func:`imf_deploy.bench` for the files and, before them, for their networks.
        validation: Images with labels to measure the accuracy of the networks on. A file is recommended only
            if this and ``bench`` are given.
        distilled: Result of :func:`imf_deploy.distill`, for the section about training.
        notes: Further sentences for the reader.

    Returns:
        The content of ``report.json``.

    Raises:
        UsageError: there is no file, or its network was not timed with it.
        ImfDeployError: a file was not verified, or a report cannot be written.
    """
    if not files:
        raise UsageError("there are no files to report on", "Use the result of imf_deploy.verify")
    own = files[0].preprocess
    products = [as_product(network, preprocess=own) for network in networks]
    if validation is not None:
        data = data_set(own, validation=as_split(validation, own, "validation", "validation"))
        products = [measure_accuracy(product, data) for product in products]
    about = {}
    if distilled:
        record = distilled.artifact
        about = {name: getattr(record, name) for name in ("history", "refitted", "blocks", "config")}
        about |= {"teacher": record.teacher["name"], "teacher_accuracy": record.teacher_accuracy}
        about |= {"dataset": record.data, "seed": record.config.get("seed")}
    report = report_of(
        files,
        Path(folder),
        products=products,
        latencies=_latencies(bench, files) if bench else {},
        student=files[0].model["name"],
        notes=list(notes),
        **about,
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    write(report, Path(folder))
    return report


def _latencies(bench: BenchResult, files: Sequence[DeployableFile]) -> dict[str, FileLatency]:
    """Return the latency of each file at batch 1 next to that of its network, by hash of the file."""
    rows = {row.sha256: row for row in reversed(bench.rows) if row.latency.images == 1}
    measured = {}
    for file in files:
        row, network = rows.get(file.sha256), rows.get(file.source)
        if row is None:
            continue
        if network is None:
            raise UsageError(
                f"{file.path} was timed without its network", "Pass the network to bench before its files"
            )
        memory = (row.start_up or {}).get("memory")
        bytes_ = round(memory["of_file_mib"] * 2**20) if memory else None
        faster = ratio(network.latency, row.latency)
        measured[file.sha256] = FileLatency(row.latency, network.latency, faster, row.way["threads"], bytes_)
    return measured
