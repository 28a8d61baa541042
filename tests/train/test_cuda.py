"""Training on a GPU; nothing here runs without one."""

from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.strip.stage import strip
from imf_deploy.train.config import TrainConfig, choose_device
from imf_deploy.train.distill import DistillConfig, distill, load_distilled
from imf_deploy.train.qat import QatConfig, qat
from imf_deploy.train.teacher import load_teacher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_distilling_and_stripping(data: DataSet, teacher_file: Path, tmp_path: Path, precision: str) -> None:
    train = TrainConfig(epochs=1, batch_size=8, lr=0.02, device="cuda", precision=precision)  # type: ignore[arg-type]
    teacher = load_teacher(teacher_file, "", data, choose_device("cuda"))
    made = distill(data, teacher, DistillConfig("shufflenetv2", train=train), tmp_path / "d.safetensors")
    config = QatConfig(device="cuda")
    tuned = qat(load_distilled(made), data, teacher, config, tmp_path / "q.safetensors")
    for distilled in (made, tuned):
        products = strip(load_distilled(distilled), ["plain", "imf@1"], tmp_path / distilled.path.stem)
        assert all(product.evidence["strip"]["passed"] for product in products)
