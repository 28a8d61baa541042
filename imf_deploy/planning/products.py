"""The products of a candidate with random weights, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from imf_deploy.distillation.imf_task import training_graph
from imf_deploy.files import fingerprint
from imf_deploy.method.fold import fold
from imf_deploy.method.names import PLAIN, blocks_kept
from imf_deploy.method.products import MODULE, Product, choose_products
from imf_deploy.planning.candidates import Candidate
from imf_deploy.records.files import ProductFile
from imf_deploy.settings import BranchSettings
from imf_deploy.settings.run import ALL
from imf_deploy.verification.proof import count_macs, count_parameters

IMAGES = 8
"""Number of random images that statistics and ranges are measured on."""


def noise_images(candidate: Candidate, count: int = IMAGES) -> torch.Tensor:
    """Return random images ``float32 [N, C, H, W]``, of mean 0 and deviation 1 like normalised ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *candidate.preprocess.shape, generator=generator)


def random_products(candidate: Candidate) -> list[Product]:
    """Return every product of a candidate as it will be after a training, but with random weights.

    Branches are built as a distillation builds them, within the same budget. Batch norms have the statistics
    of random images, so that activations neither vanish nor explode: denormal numbers are slow.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return list(_products(candidate))


def _products(candidate: Candidate) -> Iterator[Product]:
    spec = candidate.spec
    graph, blocks, _ = training_graph(spec, candidate.features, BranchSettings())
    _settle(graph, noise_images(candidate))
    for name in choose_products((ALL,), graph.imf.members):
        k = blocks_kept(name)
        module = fold(graph.student, graph.imf, blocks, k) if k else graph.student
        model = spec.to_dict()
        if name != PLAIN:
            model["taps"] = [block.name for block in blocks[:k]]
            model["ifds"] = [asdict(shape) for shape in graph.imf.shapes[:k]]
        record = ProductFile(
            path=Path(f"{spec.stem}-{name}"),
            format=MODULE,
            sha256=fingerprint(["plan", model, name]),
            parent="",
            recipe="",
            model=model,
            preprocess=candidate.preprocess,
            product=name,
            parameters=count_parameters(module),
            macs=count_macs(module, spec.shape),
            data="",
            data_config={},
        )
        yield Product(record, module)


@torch.no_grad()
def _settle(graph: nn.Module, images: torch.Tensor) -> None:
    """Set the statistics of all batch norms to those of images, and put the graph into evaluation mode."""
    norms = [part for part in graph.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    graph.train()(images)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    graph.eval()
