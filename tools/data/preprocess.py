"""From an image file to a model's input tensor, in the steps of torchvision's classification presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from fxc.compiler.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP_OF_RESIZE = 0.875
"""224/256: the share of the resized image that the centre crop keeps where nobody says otherwise."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the centre, scale to [0, 1], subtract the mean, divide by the deviation.

    Attributes:
        crop: height and width of the result, pixels.
        resize: shorter side before cropping, pixels; one number per side resizes without keeping the aspect.
        mean, std: per channel; their length is the number of channels (1 reads images as grey, 3 as RGB).
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.
        said: where these numbers come from, in words.
        image_input: order of the channels in which a compiled model takes bytes (``"rgb"``, ``"bgr"``, ``"gray"``) and
            normalises them itself; ``None`` where it takes the normalised tensor.
    """

    crop: tuple[int, int] = (224, 224)
    resize: tuple[int, ...] = (256,)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    said: str = "given by the user"
    image_input: str | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise UsageError(
                f"mean has {len(self.mean)} value(s) and std {len(self.std)}",
                why="both take one value per channel, 1 (grey) or 3 (RGB)",
            )
        if not all(s > 0 for s in self.std):
            raise UsageError(f"std must be positive, got {list(self.std)}")
        if min(*self.crop, *self.resize) < 1:
            raise UsageError(f"image sizes must be positive, got {self.crop} from {self.resize}")

    def __call__(self, image: Image.Image) -> Tensor:
        """The tensor ``[channels, height, width]`` of one image: float32, or uint8 for a model that normalises itself."""
        image = image.convert("RGB" if len(self.mean) == 3 else "L")
        mode = InterpolationMode(self.interpolation)
        image = F.resize(image, list(self.resize), interpolation=mode, antialias=True)
        pixels = F.pil_to_tensor(F.center_crop(image, list(self.crop)))
        if self.image_input is not None:
            return pixels.flip(0) if self.image_input == "bgr" else pixels
        return F.normalize(F.convert_image_dtype(pixels, torch.float32), list(self.mean), list(self.std))

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return {
            "crop": list(self.crop),
            "resize": list(self.resize),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "said": self.said,
            **({"image_input": self.image_input} if self.image_input else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that :meth:`to_json` wrote, or what a user said of it: what is absent has its default.

        Raises:
            UsageError: values of another kind.
        """
        kinds: dict[str, Any] = {
            "crop": _integers,
            "resize": _integers,
            "mean": _floats,
            "std": _floats,
            "interpolation": str,
            "said": str,
            "image_input": str,
        }
        try:
            return cls(
                **{word: kind(data[word]) for word, kind in kinds.items() if data.get(word) is not None}
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the preprocessing cannot be used: {error}", why=f"it is {dict(data)}"
            ) from error


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(map(int, values))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))


def from_weights(weights: Any) -> Preprocessing | None:
    """What a torchvision weight says of its own preprocessing; ``None`` where it does not classify images."""
    preset = weights.transforms()
    wanted = ("crop_size", "resize_size", "mean", "std", "interpolation")
    if not all(hasattr(preset, name) for name in wanted):
        return None
    crop = [*preset.crop_size, *preset.crop_size][:2]
    return Preprocessing(
        (crop[0], crop[1]),
        tuple(preset.resize_size),
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
        f"torchvision {weights}",
    )


def given(
    size: Sequence[int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    shape: Sequence[int | str],
    base: Preprocessing | None = None,
) -> Preprocessing:
    """The preprocessing for an input ``[batch, channels, height, width]``: ``base`` with the user's words on top.

    Without ``size`` the crop is the input's own height and width. Without ``mean`` and ``std`` it is ImageNet's for
    three channels and 0 and 1 for one.

    Raises:
        UsageError: the input is no image, or its size is not known.
    """
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise UsageError(
            f"images do not fit an input of shape [{', '.join(map(str, shape))}]",
            why="an image input is [batch, 1 or 3 channels, height, width]",
            fix="give the calibration data as .npy, .npz, .pt or file.py:iterable",
        )
    grey = shape[1] == 1
    start = base or Preprocessing(
        crop=(0x7FFF, 0x7FFF),
        mean=(0.0,) if grey else IMAGENET_MEAN,
        std=(1.0,) if grey else IMAGENET_STD,
        said="ImageNet's mean and deviation" if not grey else "scaled to [0, 1]",
    )
    crop = _crop(size, shape, start.crop if base else None)
    words = size is not None or mean is not None or std is not None
    return Preprocessing(
        crop,
        start.resize if base and crop == start.crop else _resize(crop),
        tuple(mean) if mean else start.mean,
        tuple(std) if std else start.std,
        start.interpolation,
        "given by the user" if words else start.said,
        start.image_input,
    )


def _crop(
    size: Sequence[int] | None, shape: Sequence[int | str], own: tuple[int, int] | None
) -> tuple[int, int]:
    if size:
        height, width = (*size, *size)[:2]
    elif isinstance(shape[2], int) and isinstance(shape[3], int):
        height, width = shape[2], shape[3]
    elif own:
        height, width = own
    else:
        raise UsageError("the model takes images of any size, so the size must be said", fix="--size 224")
    return int(height), int(width)


def _resize(crop: tuple[int, int]) -> tuple[int, ...]:
    """The torchvision habit for a square crop; both sides scaled alike for any other."""
    height, width = (round(side / CROP_OF_RESIZE) for side in crop)
    return (height,) if height == width else (height, width)
