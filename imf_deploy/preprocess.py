"""The one description of how a picture becomes a network's input.

It is derived once from the data set and then used for training, verification, calibration and
serving; it travels in every sidecar and in the metadata of every ONNX file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from imf_deploy.errors import ImfDeployError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from torch import Tensor

Resize = Literal["none", "crop"]


@dataclass(frozen=True)
class Preprocess:
    """Picture -> float32 network input ``[N, 3, size, size]``.

    Attributes:
        size: Height and width of the network's input, in pixels.
        resize: ``none`` (pictures already have the size) or ``crop`` (the shorter side is scaled
            to ``resize_to`` with a bilinear filter, then the centre is cropped).
        resize_to: Length of the shorter side before the centre crop, in pixels.
        mean: Mean of each of the three channels, on the scale where white is 1.
        std: Standard deviation of each of the three channels, on the same scale.
        labels: Names of the classes, in the order of the logits.
        color: ``RGB``, or ``L`` for grey pictures, whose one channel is repeated three times.
    """

    size: int
    resize: Resize
    resize_to: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: tuple[str, ...]
    color: Literal["RGB", "L"] = "RGB"

    @property
    def num_classes(self) -> int:
        """Number of classes, and of logits."""
        return len(self.labels)

    def load(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Turn any PIL picture into ``uint8 [C, size, size]`` (C is 3, or 1 for ``L``).

        EXIF rotation is applied; palettes, alpha, CMYK and 16-bit grey are converted.
        """
        import numpy as np
        from PIL import Image, ImageOps

        picture = ImageOps.exif_transpose(image)
        if picture.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
            # Pillow clips 16-bit grey at 255 on conversion; scale the high byte down instead.
            wide = np.asarray(picture, dtype=np.float64)
            scale = 257.0 if wide.max(initial=0.0) > 255.0 else 1.0
            picture = Image.fromarray((wide / scale).clip(0, 255).astype(np.uint8))
        picture = picture.convert(self.color)
        if self.resize == "crop":
            width, height = picture.size
            ratio = self.resize_to / min(width, height)
            scaled = (max(round(width * ratio), self.size), max(round(height * ratio), self.size))
            picture = picture.resize(scaled, Image.Resampling.BILINEAR)
            left, top = (scaled[0] - self.size) // 2, (scaled[1] - self.size) // 2
            picture = picture.crop((left, top, left + self.size, top + self.size))
        elif picture.size != (self.size, self.size):
            raise ImfDeployError(
                f"a picture is {picture.width}x{picture.height} pixels, not {self.size}x{self.size}"
            )
        pixels = np.asarray(picture)
        return pixels[None] if self.color == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def normalize(self, images: Tensor) -> Tensor:
        """Turn ``uint8 [N, 1 or 3, H, W]`` into ``float32 [N, 3, H, W]``, channels last."""
        import torch

        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1) * 255
        normal = (images.expand(-1, 3, -1, -1).float() - mean) / std
        return normal.contiguous(memory_format=torch.channels_last)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that sidecars and ONNX metadata hold."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preprocess:
        """Read the form of :meth:`to_dict`.

        Raises:
            ImfDeployError: a field is missing or has the wrong form.
        """
        try:
            mean, std = (tuple(float(v) for v in content[key]) for key in ("mean", "std"))
            if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
                raise ValueError("mean and std need three values, std above zero")
            if content["resize"] not in ("none", "crop") or content["color"] not in ("RGB", "L"):
                raise ValueError("unknown resize or color")
            return cls(
                size=int(content["size"]),
                resize=content["resize"],
                resize_to=int(content["resize_to"]),
                mean=mean,
                std=std,
                labels=tuple(str(label) for label in content["labels"]),
                color=content["color"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ImfDeployError(f"the preprocessing record is damaged ({error})") from error
