"""DIST: distillation of the relations between predictions."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.models import only_logits
from imf_deploy.study.rivals.kd import Taught


def relational_distillation(
    logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the two parts of distillation from a stronger teacher (DIST).

    Source: Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", equations 6 to 9. With
    ``Y = softmax(z / T)``, ``[N, classes]``, and Pearson's correlation ``r``, the parts are the means of
    ``1 - r(Y_s[i, :], Y_t[i, :])`` over the images and of ``1 - r(Y_s[:, j], Y_t[:, j])`` over the classes.
    Both carry the factor of the squared temperature, as in the authors' code.

    Args:
        logits: The student's, ``[N, classes]``.
        teacher_logits: ``[N, classes]``.
        temperature: Divides both sides' logits.

    Returns:
        The relations between classes for each image, and those between images for each class; from 0 to 2
        times the squared temperature.
    """
    mine, its = ((z.float() / temperature).softmax(1) for z in (logits, teacher_logits))
    scale = temperature**2
    return scale * uncorrelated(mine, its), scale * uncorrelated(mine.T, its.T)


def uncorrelated(mine: Tensor, its: Tensor) -> Tensor:
    """Return the mean of ``1 - r`` over rows ``[rows, n]``, with Pearson's correlation ``r`` of each row."""
    mine, its = (rows - rows.mean(1, keepdim=True) for rows in (mine, its))
    return 1 - functional.cosine_similarity(mine, its).mean()


class Dist(Taught):
    """DIST (Huang et al. 2022): labels, and the relations of :func:`relational_distillation`.

    Settings: ``classes`` and ``images``, the weights of the two parts (their beta and gamma), and
    ``temperature``. Those of the paper on CIFAR-100 are 2, 2 and 4, at the weight 1 of the cross-entropy.
    """

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits = only_logits(self.student, network(images))
        settings = self._settings
        classes, instances = relational_distillation(logits, target, settings["temperature"])
        return {
            "cross_entropy": self.supervised(logits, labels),
            "between_classes": settings["classes"] * classes,
            "between_images": settings["images"] * instances,
        }
