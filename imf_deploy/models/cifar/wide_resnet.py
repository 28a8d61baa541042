"""Wide residual networks (Zagoruyko and Komodakis 2016, section 2), without dropout."""

from torch import Tensor, nn

from imf_deploy.models.cifar.layers import Head, initialize

# depth (4 + 6 x blocks per stage) and width
VARIANTS = {f"wrn-{depth}-{width}": (depth, width) for depth in (16, 40) for width in (1, 2)}


class _PreActivation(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a shortcut around them.

    If the number of channels changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        y = self.conv2(self.relu(self.bn2(self.conv1(active))))
        total: Tensor = y + (x if self.shortcut is None else self.shortcut(active))
        return total


class WideResNet(nn.Sequential):
    """``[N, 3, H, W]`` -> logits ``[N, num_classes]``.

    Args:
        name: A key of :data:`VARIANTS`.
        num_classes: Number of logits.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        depth, width = VARIANTS[name]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        channels, stages = 16, []
        for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            blocks = [_PreActivation(channels, outputs, stride)]
            blocks += [_PreActivation(outputs, outputs, 1) for _ in range((depth - 4) // 6 - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = outputs
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.head = Head(channels, num_classes)
        initialize(self)
