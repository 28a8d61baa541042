"""VGG for CIFAR (Simonyan and Zisserman 2015; the short one and the head follow Tian et al. 2019).

Five stages of 3x3 convolutions with bias and batch norm; the first three end in pooling, so that an image of
32 pixels ends as a map of 4x4; one linear layer.
"""

from torch import nn

from imf_deploy.models.cifar.layers import Head, initialize

# convolutions in each of the five stages
VARIANTS = {"vgg8": (1, 1, 1, 1, 1), "vgg13": (2, 2, 2, 2, 2)}
_CHANNELS = (64, 128, 256, 512, 512)
_POOLED = 3


class CifarVgg(nn.Sequential):
    """``[N, 3, H, W]`` -> logits ``[N, num_classes]``.

    Args:
        name: A key of :data:`VARIANTS`.
        num_classes: Number of logits.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = 3
        for index, (count, outputs) in enumerate(zip(VARIANTS[name], _CHANNELS, strict=True)):
            # The pooling begins the next stage, so that a stage ends before it.
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if 0 < index <= _POOLED else []
            for _ in range(count):
                layers += [
                    nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
                ]  # fmt: skip
                inputs = outputs
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.head = Head(inputs, num_classes)
        initialize(self)
