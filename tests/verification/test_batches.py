"""Networks whose answer for an image depends on the other images of its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.export.stage import export
from imf_deploy.files import sha256_file
from imf_deploy.method.products import Product, load_product
from imf_deploy.records.files import Artifact
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.run import check_batches
from imf_deploy.verification.stage import evaluate_product, verify


@pytest.fixture(scope="module")
def product(data: DataSet, distilled_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Product:
    (made,) = strip(load_distilled(distilled_artifact), ["plain"], tmp_path_factory.mktemp("products"))
    return evaluate_product(load_product(made.path), data)


@pytest.fixture(scope="module")
def exported(product: Product, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    return export(product, ["fp32", "fp16"], None, tmp_path_factory.mktemp("deploy"))


def negated_alone(good: Artifact, path: Path) -> Artifact:
    """Write a file that answers with negated logits where the batch has one image."""
    model = onnx.load(good.path)
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "logits" else name for name in node.output]
    for name, value in {"axis": np.array(0), "one": np.array(1), "two": np.float32(2)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(np.float32(1)), "unit"))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["inner"], ["shape"]),
            helper.make_node("Gather", ["shape", "axis"], ["count"]),
            helper.make_node("Equal", ["count", "one"], ["alone"]),
            helper.make_node("Cast", ["alone"], ["flag"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["flag", "two"], ["twice"]),
            helper.make_node("Sub", ["unit", "twice"], ["sign"]),
            helper.make_node("Mul", ["inner", "sign"], ["logits"]),
        ]
    )
    onnx.save(model, path)
    return good.revised(path=path, sha256=sha256_file(path)).save()


def test_good_files_answer_alone_as_in_a_batch(
    product: Product, exported: list[Artifact], data: DataSet
) -> None:
    for verified in verify(product, exported, data):
        result = verified.verify
        check = result.batches
        assert result.status == "pass"
        assert (check.images, check.batch, check.agreement, check.reason) == (18, 100, 1, "")
        assert check.max_abs_diff <= check.tolerance


def test_a_file_that_depends_on_the_batch_fails(
    product: Product, exported: list[Artifact], data: DataSet, tmp_path: Path
) -> None:
    bad = negated_alone(exported[0], tmp_path / "bad.onnx")
    first, second = (file.verify for file in verify(product, [bad, exported[1]], data))
    assert first.agreement == 1  # at the batch of the whole test
    assert first.status == "fail"
    assert first.reason.startswith("at ONNX fp32, its answers depend on the other images of the batch")
    assert "alone, 18 of 18 images" in first.reason
    assert first.ladder[-1].status == "fail"
    assert first.batches.agreement == 0
    assert second.batches.reason == ""
    assert "ladder breaks at ONNX fp32 (its answers depend" in second.reason


class NegatedAlone(nn.Module):
    """The same in PyTorch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return -logits if len(images) == 1 else logits


def test_a_product_that_depends_on_the_batch_fails_every_file(
    product: Product, exported: list[Artifact], data: DataSet
) -> None:
    bad = Product(product.artifact, NegatedAlone(product.module).eval())
    for verified in verify(bad, exported, data):
        result = verified.verify
        assert result.status == "fail"
        assert result.reason.startswith("the ladder breaks at stripped (its answers depend on the other")
        assert result.batches.reason == ""


def test_images_lie_apart_and_are_few(data: DataSet) -> None:
    """Folders are sorted by class: the first images of a split would all be of one."""
    seen: list[Any] = []

    def infer(images: Any) -> Any:
        seen.append(images)
        return np.eye(3, dtype=np.float32)[:1]

    many = data.train.subset(torch.arange(len(data.train)).repeat(3))
    together = np.eye(3, dtype=np.float32)[:1].repeat(len(many), 0)
    check = check_batches(infer, together, many, data.preprocess, 100, "fp32")
    assert check.images == len(seen) == 32
    assert all(images.shape == (1, 3, 16, 16) for images in seen)
    assert len({images.tobytes() for images in seen}) > 20
    assert check.reason == ""


@pytest.mark.parametrize(("precision", "passes"), [("fp32", False), ("fp16", True), ("int8", True)])
def test_rounding_may_move_a_step(data: DataSet, precision: str, passes: bool) -> None:
    together = np.random.default_rng(0).standard_normal((len(data.test), 3)).astype(np.float32)
    rows = iter(together)

    def infer(images: Any) -> Any:
        return next(rows)[None] * np.float32(1.005)

    check = check_batches(infer, together, data.test, data.preprocess, 100, precision)
    assert (check.reason == "") == passes


def test_nan_is_no_equal_answer(data: DataSet) -> None:
    together = np.full((len(data.test), 3), np.nan, np.float32)
    check = check_batches(lambda images: together[:1], together, data.test, data.preprocess, 100, "int8")
    assert check.reason
    assert check.agreement == 0
