"""``imf@k``: the first blocks, with the attention folded away."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imf_deploy.distillation.distill import Distilled
from imf_deploy.method.products import choose_products, load_product
from imf_deploy.models import read_weights
from imf_deploy.stripping.stage import strip


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet18", "shufflenetv2"])
def test_every_k_answers_like_its_attentive_logit(
    make_distilled: Callable[[str], Distilled], tmp_path: Path, name: str
) -> None:
    distilled = make_distilled(name)
    images = torch.randn(4, 3, 32, 32)
    count = distilled.graph.imf.members
    made = strip(distilled, choose_products(["all"], count), tmp_path / "products", images)
    assert [artifact.product for artifact in made] == ["plain", *(f"imf@{k}" for k in range(1, count + 1))]
    with torch.inference_mode():
        _, branches = distilled.graph(images)
        for k, artifact in enumerate(made[1:], 1):
            logits = load_product(artifact.path).module(images)
            assert torch.allclose(logits, branches.attentive[k - 1], atol=1e-5, rtol=1e-5)
            proof = artifact.strip
            assert proof.passed
            cut, folded = proof.ladder
            assert (cut.name, cut.against, folded.name) == ("stripped", "training graph", "folded")
            assert proof.max_abs_diff <= cut.tolerance + folded.tolerance < 1e-3
            assert proof.teacher_tensors_found == proof.attentive_tensors_found == 0
    sizes = [artifact.parameters for artifact in made[1:]]
    macs = [artifact.macs for artifact in made[1:]]
    assert sizes == sorted(sizes)
    assert macs == sorted(macs)
    assert sizes[-1] <= made[0].parameters
    assert macs[-1] <= made[0].macs


def test_the_file_holds_what_is_deployed_and_nothing_else(
    make_distilled: Callable[[str], Distilled], tmp_path: Path
) -> None:
    distilled = make_distilled("resnet8")
    (artifact,) = strip(distilled, ["imf@2"], tmp_path / "products")
    names = set(read_weights(artifact.path))
    assert {name.split(".")[0] for name in names} == {"trunk", "ifds", "classifier"}
    assert not any(
        part in name for name in names for part in ("attention", "heads", "layer3", "fc", "ifds.2")
    )
    removed = {row.module for row in artifact.strip.removed}
    assert {"student.layer3.0", "student.fc.weight", "student.fc.bias"} <= removed
    assert {"imf.ifds.2", "imf.heads.0", "imf.heads.1", "imf.heads.2", "imf.attention"} <= removed
    assert not any(
        module.startswith(("student.layer1", "student.layer2", "imf.ifds.0")) for module in removed
    )


def test_a_really_distilled_student(distilled: Distilled, images: torch.Tensor, tmp_path: Path) -> None:
    made = strip(distilled, choose_products(["all"], 2), tmp_path, images)
    assert all(artifact.strip.passed for artifact in made)
    assert all(artifact.parent == distilled.artifact.sha256 for artifact in made)
    # The teacher's tensors are known, so that the search for them can find something.
    assert len(distilled.artifact.teacher_tensors) > 10


def test_made_products_are_taken_as_they_are(distilled: Distilled, tmp_path: Path) -> None:
    first = strip(distilled, ["plain", "imf@1"], tmp_path)
    times = [artifact.path.stat().st_mtime_ns for artifact in first]
    again = strip(distilled, ["plain", "imf@1"], tmp_path)
    assert [artifact.path.stat().st_mtime_ns for artifact in again] == times
    first[0].path.write_bytes(b"damaged")
    assert strip(distilled, ["plain"], tmp_path)[0].sha256 == first[0].sha256
