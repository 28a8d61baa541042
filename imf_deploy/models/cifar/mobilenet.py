"""MobileNetV2 (Sandler et al. 2018, table 2) of half width, with the strides of Tian et al. 2019.

It differs from torchvision's: half of every width is not rounded to multiples of 8, the first block also
expands (by 1), and activations are plain ReLU.
"""

from torch import Tensor, nn

from imf_deploy.models.cifar.layers import Head, conv_bn, initialize

# expansion, channels at full width, blocks, stride of the first
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
           (6, 320, 1, 1))  # fmt: skip
_FEATURES = 1280


class _InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.layers = nn.Sequential(
            conv_bn(inputs, inner, 1),
            conv_bn(inner, inner, 3, stride, groups=inner),
            conv_bn(inner, outputs, 1, relu=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class CifarMobileNetV2(nn.Sequential):
    """``[N, 3, H, W]`` -> logits ``[N, num_classes]``."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = 16
        self.stem = conv_bn(3, channels, stride=2)
        stages = []
        for expansion, width, count, first in _STAGES:
            blocks = []
            for index in range(count):
                blocks.append(_InvertedResidual(channels, width // 2, 1 if index else first, expansion))
                channels = width // 2
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.features = conv_bn(channels, _FEATURES, 1)
        self.head = Head(_FEATURES, num_classes)
        initialize(self)
