"""``ImfDistiller`` in other people's loops: PyTorch's own, Lightning's, and Accelerate's."""

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

import imf_deploy
from imf_deploy import ImfDistiller
from imf_deploy.errors import DivergedError, ImfDeployError, UsageError
from imf_deploy.settings import DistillSettings

Batches = list[tuple[Tensor, Tensor]]


def check_products(imf: ImfDistiller, loader: Batches) -> None:
    """The student's own logits are those of ``plain``, bit for bit; every product is proved and free."""
    products = imf_deploy.strip(imf)
    assert [product.name for product in products] == ["plain", "imf@1", "imf@2"]  # stages of one layer
    images = loader[0][0].to(memory_format=torch.channels_last)
    graph = copy.deepcopy(imf.graph).cpu().to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        own, branches = graph(images)
        assert torch.equal(products[0].module(images), own)
        for k, product in enumerate(products[1:]):
            torch.testing.assert_close(product.module(images), branches.attentive[k], rtol=1e-4, atol=1e-5)
    assert products[0].module.state_dict().keys() == imf.student.state_dict().keys()
    assert all(product.artifact.strip.passed for product in products)
    shared = {parameter.data_ptr() for parameter in imf.parameters()}
    assert not any(p.data_ptr() in shared for product in products for p in product.module.parameters())


def as_loader(batches: Batches) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True))), 8)


def test_a_plain_loop(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    imf = ImfDistiller(student, big, image_size=16)
    optimizer = torch.optim.SGD(imf.parameters(), 0.02, momentum=0.9)
    losses = []
    for _epoch in range(4):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = imf(images, labels)
            loss.total.backward()
            optimizer.step()
            losses.append(loss.total.item())
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    imf.eval()
    right = sum(int((student(images).argmax(1) == labels).sum()) for images, labels in loader)
    assert right > 0.8 * 48
    check_products(imf, loader)


def test_lightning(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.imf = ImfDistiller(student, big, image_size=16)

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            losses = self.imf(*batch)
            self.log("loss", losses.total)
            total: Tensor = losses.total
            return total

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 0.01)

    module = Module()
    before = copy.deepcopy(student.state_dict())
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, as_loader(loader))
    assert not torch.equal(student.head.weight, before["head.weight"])
    assert not any(name.startswith("imf.teacher") for name in module.state_dict())
    check_products(module.imf, loader)


def test_accelerate(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    data = as_loader(loader)
    imf = ImfDistiller(student, big, image_size=16)
    imf, optimizer, batches = accelerator.prepare(imf, torch.optim.SGD(imf.parameters(), 0.02), data)
    for images, labels in batches:
        with accelerator.autocast():
            loss = imf(images, labels).total
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    check_products(accelerator.unwrap_model(imf), loader)


def test_the_terms_add_up_and_have_their_weights(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    found = []
    for alpha in (30.0, 60.0):
        torch.manual_seed(1)
        settings = DistillSettings(alpha=alpha, match="stages")
        imf = ImfDistiller(copy.deepcopy(student), big, 16, settings)
        found.append(imf(*loader[0]))
    for losses in found:
        terms = (losses.cross_entropy, losses.student_kd, losses.branch_kd, losses.prefix_kd, losses.feature)
        torch.testing.assert_close(losses.total, sum(terms, torch.tensor(0.0)))
        assert losses.logits.shape == (8, 3)
        assert not losses.logits.requires_grad
    torch.testing.assert_close(found[1].feature, 2 * found[0].feature)
    torch.testing.assert_close(found[1].branch_kd, found[0].branch_kd)


def test_the_teacher_follows_but_is_not_trained_or_saved(student: nn.Module, big: nn.Module) -> None:
    imf = ImfDistiller(student, big, image_size=16)
    its = {id(parameter) for parameter in big.parameters()}
    assert not any(id(parameter) in its for parameter in imf.parameters())
    assert {name.split(".")[1] for name in imf.state_dict()} == {"student", "imf"}
    assert not any(parameter.requires_grad for parameter in big.parameters())
    imf.train().double()
    assert not big.training
    assert all(parameter.dtype == torch.float64 for parameter in big.parameters())
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    assert torch.isfinite(imf(images, torch.tensor([0, 1, 2, 0])).total)


def test_a_copy_and_a_saved_one_are_distillers_of_their_own(
    student: nn.Module, big: nn.Module, loader: Batches
) -> None:
    imf = ImfDistiller(student, big, image_size=16)
    imf(*loader[0]).total.backward()
    content = io.BytesIO()
    torch.save(imf, content)
    content.seek(0)
    others = [copy.deepcopy(imf), torch.load(content, weights_only=False)]
    expected = imf.eval()(*loader[1]).total
    for other in others:
        assert torch.equal(other.eval()(*loader[1]).total, expected)
        with torch.no_grad():
            other.student.head.weight.zero_()
    assert torch.equal(imf(*loader[1]).total, expected)


def test_what_does_not_fit_is_refused_before_training(student: nn.Module, big: nn.Module) -> None:
    with pytest.raises(UsageError, match="image_size=20"):
        ImfDistiller(student, big, image_size=16)(torch.randn(2, 3, 20, 20), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="share"):
        ImfDistiller(student, student, image_size=16)
    other = copy.deepcopy(student)
    other.head = nn.Linear(32, 4)
    with pytest.raises(ImfDeployError, match="the teacher has 3 classes, but the student has 4"):
        ImfDistiller(other, big, image_size=16)
    with pytest.raises(UsageError, match="probabilities"):
        ImfDistiller(nn.Sequential(student, nn.Softmax(1)), big, image_size=16)


def test_the_branches_warm_up(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    imf = ImfDistiller(student, big, 16, DistillSettings(branch_warmup=0.5))
    imf.eval()
    at = {}
    for progress in (0.0, 0.25, 1.0):
        imf.progress = progress
        at[progress] = imf(*loader[0]).feature.item()
    assert at[0.0] == 0.0
    assert at[0.25] == pytest.approx(at[1.0] / 2)


def test_a_training_that_diverged_is_not_stripped(student: nn.Module, big: nn.Module) -> None:
    imf = ImfDistiller(student, big, 16)
    with torch.no_grad():
        imf.branches.attention[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"1 weights .* such as imf\.attention"):
        imf_deploy.strip(imf)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one, as DDP needs."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_ddp_and_averaged_weights(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    imf = ImfDistiller(student, big, image_size=16)
    network, averaged = nn.parallel.DistributedDataParallel(imf), AveragedModel(imf)
    optimizer = torch.optim.SGD(network.parameters(), 0.02)
    for images, labels in loader:
        optimizer.zero_grad()
        network(images, labels).total.backward()
        assert all(p.grad is not None for p in imf.parameters() if p.requires_grad)
        optimizer.step()
        averaged.update_parameters(imf)
    check_products(averaged.module, loader)
    assert not torch.equal(averaged.module.student.head.weight, student.head.weight)
