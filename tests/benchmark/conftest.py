"""Files of each kind that can be measured."""

from pathlib import Path

import pytest

from imf_deploy.files import sha256_file
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.models.weights import save_weights
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import ProductFile


@pytest.fixture(scope="session")
def product_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``resnet8`` as a stripped student, with its sidecar; untrained."""
    path = tmp_path_factory.mktemp("product") / "resnet8-plain.safetensors"
    spec = ModelSpec.for_images("resnet8", 3, 16)
    save_weights(path, build_model(spec).state_dict())
    preprocess = Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("a", "b", "c"))
    ProductFile(
        path=path, sha256=sha256_file(path), data="", data_config={}, parent="",
        recipe="", model=spec.to_dict(),
        preprocess=preprocess, product="plain",
    ).save()  # fmt: skip
    return path
