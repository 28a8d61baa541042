"""A network that leaves an ``imf@k`` no room."""

from torch import Tensor, nn


class OneStage(nn.Module):
    """A network of one stage, which costs nearly everything: there is no room for an IFD after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Conv2d(8, 64, 3, 2, 1)
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.stem(images)).mean((2, 3)))
        return logits
