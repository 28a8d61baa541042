"""The networks that Tian et al. 2019 ("Contrastive Representation Distillation") compare on CIFAR-100.

They are our own implementations of the papers. If the authors' published networks (RepDistiller) differ from
the papers, the published networks are followed, and the module says so.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from imf_deploy.models.cifar import resnet, vgg, wide_resnet
from imf_deploy.models.cifar.mobilenet import CifarMobileNetV2
from imf_deploy.models.cifar.shufflenet import CifarShuffleNet

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    **{name: partial(resnet.CifarResNet, name) for name in resnet.VARIANTS},
    "resnet50": resnet.resnet50,
    **{name: partial(wide_resnet.WideResNet, name) for name in wide_resnet.VARIANTS},
    **{name: partial(vgg.CifarVgg, name) for name in vgg.VARIANTS},
    "mobilenetv2": CifarMobileNetV2,
    "shufflenetv1": partial(CifarShuffleNet, 1),
    "shufflenetv2": partial(CifarShuffleNet, 2),
}
"""For each NAME of ``cifar:NAME``, the function that builds it for a number of classes."""
