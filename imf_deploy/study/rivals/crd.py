"""CRD: pooled features of student and teacher that agree for the same image only."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.method.branches import Taps, pool
from imf_deploy.models import ModelSpec, find_blocks, student_blocks
from imf_deploy.study.rivals.kd import Settings, Taught
from imf_deploy.study.rivals.logits import softened
from imf_deploy.teaching.teacher import Teacher

WIDTH, NEGATIVES, TEMPERATURE = 128, 16_384, 0.07
"""Width of the vectors, number of earlier images, and temperature of their products (the paper's)."""


def likeness(anchors: Tensor, vectors: Tensor) -> Tensor:
    """Return ``exp(a . b / T)`` of vectors of length 1: ``[N, width]`` and ``[K, width]`` -> ``[N, K]``."""
    return (anchors @ vectors.T / TEMPERATURE).exp()


def contrast(own: Tensor, earlier: Tensor, others: Tensor) -> Tensor:
    """Return the contrastive loss, in nats per image.

    Source: Tian et al. 2020, "Contrastive Representation Distillation", section 3.1. The critic of a pair
    with the likeness ``e`` is ``h = e / (e + m)`` with ``m`` negatives, and the loss is
    ``-log h(own) - sum log(1 - h(negative))``.

    Args:
        own: Likeness of both networks' vectors of an image, relative to a mean of 1 at the start, ``[N]``.
        earlier: Likeness of its vector by one network with those of earlier images by the other, ``[N, K]``.
        others: Which of these have another class, ``[N, K]``; they are the negatives.
    """
    count = others.sum(1).clamp_min(1)
    told_apart = torch.log1p(earlier / count[:, None]) * others
    return (torch.log1p(count / own) + told_apart.sum(1)).mean()


class _Memory(nn.Module):
    """Vectors of one network for earlier images, in buffers, so that a training resumes with them.

    Attributes:
        vectors: ``[NEGATIVES, WIDTH]``; random ones at the start.
        scale: Mean likeness of the first batch with them; 0 before it. The authors' code too divides by it.
    """

    vectors: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("vectors", functional.normalize(torch.randn(NEGATIVES, WIDTH)))
        self.register_buffer("scale", torch.zeros(()))

    def contrast(self, anchors: Tensor, own: Tensor, others: Tensor) -> Tensor:
        """Return the loss of :func:`contrast` for vectors ``[N, WIDTH]`` of the two networks."""
        earlier = likeness(anchors, self.vectors.clone())  # the gradient needs them as they are now
        # Without a condition in Python, which a CUDA graph would not repeat.
        self.scale.copy_(torch.where(self.scale > 0, self.scale, earlier.detach().mean()))
        scale = self.scale.clone()
        own_likeness = ((anchors * own).sum(1) / TEMPERATURE).exp()
        return contrast(own_likeness / scale, earlier / scale, others)


class _Contrasted(nn.Module):
    """A student and two linear maps, of its pooled features and of the teacher's, with their memories."""

    labels: Tensor
    place: Tensor

    def __init__(self, student: nn.Module, taps: Taps, channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.student = student
        self.taps = taps
        self.mine, self.its = nn.Linear(channels, WIDTH), nn.Linear(teacher_channels, WIDTH)
        self.my_memory, self.its_memory = _Memory(), _Memory()
        self.register_buffer("labels", torch.full((NEGATIVES,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(self, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits, and the vectors of the student and of the teacher's pooled features."""
        logits, (last,) = self.taps.run(images)
        mine = functional.normalize(self.mine(pool(last)).float())
        return logits, mine, functional.normalize(self.its(features).float())

    def compare(self, mine: Tensor, its: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of both sides against the memories, and store the vectors ``[N, WIDTH]``."""
        others = labels[:, None] != self.labels
        loss = self.its_memory.contrast(mine, its.detach(), others)
        loss = loss + self.my_memory.contrast(its, mine.detach(), others)
        self._store(mine, its, labels)
        return loss

    @torch.no_grad()
    def _store(self, mine: Tensor, its: Tensor, labels: Tensor) -> None:
        mine, its, labels = (values[-NEGATIVES:] for values in (mine, its, labels))
        places = (self.place + torch.arange(len(labels), device=labels.device)) % NEGATIVES
        self.my_memory.vectors.index_copy_(0, places, mine)
        self.its_memory.vectors.index_copy_(0, places, its)
        self.labels.index_copy_(0, places, labels)
        self.place.add_(len(labels)).remainder_(NEGATIVES)


class Crd(Taught):
    """Contrastive representation distillation (Tian et al. 2020), alone or with KD.

    The pooled last maps of both networks are mapped to vectors of length 1. Those of the same image should
    agree, and those of images of other classes should not. The paper draws these from a memory with a place
    for each image of the data set. Here they are all vectors of other classes among those of the last 16,384
    images, and vectors of the same image are current ones.

    Settings: ``contrast``, the weight of :func:`contrast` for both sides; ``kd``, that of KD's divergence
    with the factor of the squared ``temperature``. The authors' scripts for CIFAR-100 have 0.8 and 0 for CRD,
    0.8 and 1 for CRD with KD, and the temperature 4.
    """

    def __init__(self, spec: ModelSpec, teacher: Teacher, settings: Settings) -> None:
        super().__init__(spec, teacher, settings)
        mine = student_blocks(self.student, spec)[-1]
        its = find_blocks(teacher.module, spec.image_size)[-1]
        self._taps = Taps(teacher.module, [its])
        contrasted = _Contrasted(self.student, Taps(self.student, [mine]), mine.channels, its.channels)
        self.contrasted = self.module = contrasted.to(memory_format=torch.channels_last)

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return the teacher's logits and its pooled last map ``[N, C]`` for each part."""
        with torch.no_grad():
            outputs = [self._teacher.look(images, self._taps) for images in parts]
            return [(logits, pool(features.float())) for logits, features in outputs]

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for the values of :meth:`targets`, and remember the images."""
        teacher_logits, features = target
        logits, mine, its = network(images, features)
        settings = self._settings
        return {
            "cross_entropy": self.supervised(logits, labels),
            "contrast": settings["contrast"] * self.contrasted.compare(mine, its, labels),
            "kd": settings["kd"] * softened(logits, teacher_logits, settings["temperature"]),
        }
