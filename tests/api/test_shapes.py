"""Networks for images that are not square, and for one channel, as objects."""

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import imf_deploy
from imf_deploy import Gate, ImfDistiller, Preprocess
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import QuantizeSettings

Batches = list[tuple[Tensor, Tensor]]
SHAPE = (1, 16, 24)
KEEP = QuantizeSettings(keep_int8=True)


def net(width: int = 8, channels: int = 1) -> nn.Module:
    torch.manual_seed(width)
    layers: list[nn.Module] = []
    for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 3))


@pytest.fixture(scope="module")
def loader() -> Batches:
    """Six batches of eight images, one brightness for each of three classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (6, 8), generator=generator)
    noise = 0.3 * torch.randn(6, 8, *SHAPE, generator=generator)
    return [(dark + own[:, None, None, None] - 1.0, own) for dark, own in zip(noise, labels, strict=True)]


@pytest.fixture(scope="module")
def trained(loader: Batches) -> ImfDistiller:
    teacher = net(16)
    for images, _ in loader * 4:  # settles the statistics of its batch norm
        teacher(images)
    imf = ImfDistiller(net(), teacher, image_size=SHAPE)
    optimizer = torch.optim.SGD(imf.parameters(), 0.002)
    for images, labels in loader:
        optimizer.zero_grad()
        imf(images, labels).total.backward()
        optimizer.step()
    return imf


def test_the_distiller_names_the_shape_that_it_takes(trained: ImfDistiller, loader: Batches) -> None:
    assert trained.spec.shape == SHAPE
    assert trained.blocks[-1].size == (2, 3)
    images, labels = loader[0]
    for wrong, hint in ((images.transpose(2, 3), "(1, 24, 16)"), (images.expand(-1, 3, -1, -1), "(16, 24)")):
        with pytest.raises(UsageError) as caught:
            trained(wrong, labels)
        assert "[N, 1, 16, 24]" in caught.value.what
        assert f"image_size={hint}" in caught.value.hint
    with pytest.raises(ImfDeployError, match="cannot run on images of 16x24 pixels"):
        ImfDistiller(net(), net(16), image_size=(16, 24))


def test_files_of_its_products(trained: ImfDistiller, loader: Batches, tmp_path: Path) -> None:
    (small,) = imf_deploy.strip(trained, ["imf@1"])
    free = Gate(100.0, 0.0)
    fp32 = imf_deploy.export_onnx(small, tmp_path / "net.onnx")
    int8 = imf_deploy.quantize(fp32, tmp_path / "int8.onnx", loader, loader, gate=free, settings=KEEP)
    checked = imf_deploy.verify([fp32, int8], against=small, data=loader, gate=free)
    assert [file.verify.status for file in checked if file.verify] == ["pass", "pass"]
    assert fp32.inputs["images"] == ["batch", *SHAPE]
    rows = imf_deploy.bench([small, fp32], duration=0.0, loads=6, startup=False).rows
    assert len(rows) == 2


def test_any_module(loader: Batches, tmp_path: Path) -> None:
    module = net().eval()
    file = imf_deploy.export_onnx(module, tmp_path / "net.onnx", image_size=SHAPE)
    (tmp_path / "net.onnx.json").unlink()  # as a file of another tool
    found = imf_deploy.verify(tmp_path / "net.onnx", against=module, data=loader, gate=Gate(100.0, 0.0))
    assert found.verify.status == "pass"
    with pytest.raises(UsageError, match=r"yields images torch.float32 \[8, 3, 16, 24\].*\[N, 1, 16, 24\]"):
        imf_deploy.quantize(
            file.path, tmp_path / "a.onnx", [(x.expand(-1, 3, -1, -1), y) for x, y in loader], loader
        )
    with pytest.raises(UsageError, match=r"image_size is \(24, 16\), but preprocess has \(16, 24\)"):
        about = Preprocess((16, 24), "none", 16, (0.5,) * 3, (0.5,) * 3, ("a", "b", "c"))
        imf_deploy.export_onnx(net(channels=3), tmp_path / "b.onnx", image_size=(24, 16), preprocess=about)


def test_pictures_of_one_channel(tmp_path: Path) -> None:
    about = Preprocess((16, 24), "none", 16, (0.5,), (0.25,), ("a", "b", "c"), "L")
    module = net().eval()
    file = imf_deploy.export_onnx(module, tmp_path / "net.onnx", preprocess=about)
    pixels = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8)
    loader = [(pixels, torch.tensor([0, 1, 2] * 2))]
    assert imf_deploy.verify(file, against=module, data=loader, gate=Gate(100.0, 0.0)).verify.status == "pass"
    with torch.no_grad():
        expected = module((pixels / 255 - 0.5) / 0.25)
    session = onnxruntime.InferenceSession(str(file.path))
    found = session.run(None, {"images": about.normalize(pixels).contiguous().numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="the network takes"):
        imf_deploy.verify(file, against=module, data=[(pixels.expand(-1, 3, -1, -1), loader[0][1])])
