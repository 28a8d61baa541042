"""A distilled student of any architecture, with random weights in place of a training."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from imf_deploy.distillation.distill import Distilled
from imf_deploy.distillation.imf_task import training_graph
from imf_deploy.files import sha256_file
from imf_deploy.models import Block, ModelSpec, save_weights
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import DistilledFile
from imf_deploy.settings import BranchSettings

LABELS = tuple("abcdefghij")
FEATURES = Block("layer3", 24, 4)
DESIGN = BranchSettings()


@pytest.fixture
def make_distilled(tmp_path: Path) -> Callable[[str], Distilled]:
    """Make one by name: 10 classes, 32 pixels, statistics and attention that are not trivial."""

    def make(name: str) -> Distilled:
        torch.manual_seed(0)
        spec = ModelSpec.for_images(name, 10, 32)
        graph, blocks, features = training_graph(spec, [FEATURES], DESIGN)
        torch.nn.init.normal_(graph.imf.attention, std=2.0)
        graph.train()(torch.randn(8, 3, 32, 32))
        graph.eval()
        path = tmp_path / "distilled.safetensors"
        save_weights(path, graph.state_dict())
        artifact = DistilledFile(
            path=path,
            sha256=sha256_file(path),
            parent="0" * 64,
            recipe="recipe",
            model=spec.to_dict(),
            preprocess=Preprocess(32, "none", 32, (0.5,) * 3, (0.5,) * 3, LABELS),
            history=[],
            blocks=blocks,
            teacher_features=features,
            ifds=graph.imf.shapes,
            members=graph.imf.members,
            teacher={},
            teacher_accuracy=None,
            teacher_tensors=[],
            data="random",
            data_config={},
            config={"design": asdict(DESIGN)},
        ).save()
        return Distilled(artifact, spec, graph, blocks, features, DESIGN)

    return make
