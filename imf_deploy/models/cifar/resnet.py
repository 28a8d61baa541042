"""The residual networks of the CIFAR literature.

Source: He et al. 2016, section 4.2: three stages at full, half and quarter resolution, with a depth of 2 + 6
    x blocks per stage. The wider ones and the ResNet-50 follow Tian et al. 2019.
"""

from typing import cast

from torch import Tensor, nn

from imf_deploy.models.cifar.layers import initialize

# depth (2 + 6 x blocks per stage) and channels of the stem and the three stages
VARIANTS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    **{f"resnet{depth}": (depth, (16, 16, 32, 64)) for depth in (8, 14, 20, 32, 44, 56, 110)},
    "resnet14x2": (14, (32, 32, 64, 128)),
    "resnet8x4": (8, (32, 64, 128, 256)),
    "resnet32x4": (32, (32, 64, 128, 256)),
}


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return cast(Tensor, self.relu(y + self.downsample(x)))


def _stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
    rest = (_BasicBlock(outputs, outputs, 1) for _ in range(count - 1))
    return nn.Sequential(_BasicBlock(inputs, outputs, stride), *rest)


class CifarResNet(nn.Module):
    """``[N, 3, H, W]`` -> logits ``[N, num_classes]``.

    Args:
        name: A key of :data:`VARIANTS`.
        num_classes: Number of logits.
        width: Factor for all numbers of channels, which are rounded.
    """

    def __init__(self, name: str, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        depth, channels = VARIANTS[name]
        stem, *stages = (max(round(count * width), 1) for count in channels)
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        count = (depth - 2) // 6
        self.layer1 = _stage(stem, stages[0], count, 1)
        self.layer2 = _stage(stages[0], stages[1], count, 2)
        self.layer3 = _stage(stages[1], stages[2], count, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(stages[2], num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> logits ``[N, num_classes]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(Tensor, self.fc(self.avgpool(x).flatten(1)))


def resnet50(num_classes: int) -> nn.Module:
    """Return torchvision's ResNet-50 with a 3x3 stem of stride 1 and no pooling after it.

    Its four stages see 32x32, 16x16, 8x8 and 4x4 of CIFAR's images.
    """
    import torchvision

    network: nn.Module = torchvision.models.resnet50(weights=None, num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    initialize(network)
    return network
