"""``imf_deploy.strip``."""

from collections.abc import Sequence

from torch import Tensor

from imf_deploy.api.data import Data, as_split, data_set
from imf_deploy.api.modules import as_distilled
from imf_deploy.distillation.distill import Distilled
from imf_deploy.distillation.distiller import ImfDistiller
from imf_deploy.method.products import Product, choose_products
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings.run import ALL
from imf_deploy.stripping.stage import strip_in_memory


def strip(
    distilled: ImfDistiller | Distilled,
    products: Sequence[str] = (),
    *,
    images: Tensor | None = None,
    preprocess: Preprocess | None = None,
    calibrate_confidence: Data | None = None,
) -> list[Product]:
    """Remove from a distilled student what only training needs, and prove that its answers stay the same.

    Example:
        >>> plain, *smaller = imf_deploy.strip(imf)
        >>> logits = plain.module(images)

    Args:
        distilled: A distiller after training, which is not changed, or the result of
            :func:`imf_deploy.distill`.
        products: ``plain`` (the student itself) and ``imf@k`` (its first k blocks and their branches);
            empty makes all.
        images: ``float32 [N, C, H, W]`` to compare the logits on; by default 64 images of seeded noise.
        preprocess: How images are prepared as the input of a distiller's student, and the names of its
            classes; it is stored in every file that is made.
        calibrate_confidence: Validation images with labels, to calibrate the confidences of each product on:
            its last layer is divided by the temperature that fits them best. By default confidences stay as
            they are.

    Returns:
        The products in the order ``plain``, ``imf@1``, …; the module of each shares nothing with the student.

    Raises:
        UsageError: the student has no such product, or its confidences cannot be calibrated because its last
            layer is not linear.
        DivergedError: a weight or a statistic is not finite.
        GateError: a proof does not hold.
        ImfDeployError: the student cannot be cut after a block.
    """
    trained = as_distilled(distilled, preprocess) if isinstance(distilled, ImfDistiller) else distilled
    own, data = trained.artifact.preprocess, None
    if calibrate_confidence is not None:
        data = data_set(
            own, validation=as_split(calibrate_confidence, own, "calibrate_confidence", "validation")
        )
    return strip_in_memory(
        trained, choose_products(products or (ALL,), trained.graph.imf.members), images, data
    )
