"""``imf_deploy.verify``."""

from collections.abc import Sequence
from typing import overload

from imf_deploy.api.data import Data, as_split, data_set
from imf_deploy.api.files import File, as_file
from imf_deploy.api.modules import Network, as_product
from imf_deploy.errors import UsageError
from imf_deploy.records.files import DeployableFile
from imf_deploy.settings import Gate
from imf_deploy.verification.stage import verify as run


@overload
def verify(  # type: ignore[overload-overlap]  # a text is a sequence of texts as well
    file: File, against: Network, data: Data, gate: Gate | None = None
) -> DeployableFile: ...


@overload
def verify(
    file: Sequence[File], against: Network, data: Data, gate: Gate | None = None
) -> list[DeployableFile]: ...


def verify(
    file: File | Sequence[File], against: Network, data: Data, gate: Gate | None = None
) -> DeployableFile | list[DeployableFile]:
    """Compare files with the network that they were made from, on labelled images.

    Every file is also compared with the file that it was made from, if that one precedes it in the sequence.
    Images are run alone and in a batch. A file that fails does not raise an error; its record gives the
    reason.

    Example:
        >>> checked = imf_deploy.verify("network-fp32.onnx", against=network, data=test_loader)
        >>> checked.verify.status
        'pass'
        >>> checked.verify.metrics["ece"].value, checked.verify.metrics["ece"].reference
        (0.021, 0.019)

    Args:
        file: An ONNX file or an engine, or several files of one network.
        against: The network: a module, a product, or the file of a product.
        data: Test images with labels.
        gate: Maximum loss of a file; by default that of its record, or otherwise the usual gate.

    Returns:
        The record of the file, or of each. Its ``verify`` has the ``status`` (``pass``, ``fail``,
        or ``not-run`` without a device for it), the ``reason``, accuracies, agreement, further
        ``metrics`` by name (:class:`imf_deploy.records.metrics.MetricValue`), the ``classes`` with their
        recall, precision and confusions, and the ``ladder`` of comparisons. Nothing is written.

    Raises:
        UsageError: an argument is invalid.
        ImfDeployError: a file was made from another network, is damaged, or cannot be run by ONNX Runtime.
    """
    paths: list[File] = [file] if isinstance(file, File) else list(file)
    if not paths:
        raise UsageError("no file is given", "Use an ONNX file or an engine")
    known = [as_file(path) for path in paths]
    product = as_product(against, preprocess=known[0].preprocess)
    own = product.artifact.preprocess
    files = [
        record if record.recipe else as_file(record.path, own, product.artifact.sha256) for record in known
    ]
    checked = run(product, files, data_set(own, test=as_split(data, own, "data", "test")), gate)
    return checked[0] if isinstance(file, File) else checked
