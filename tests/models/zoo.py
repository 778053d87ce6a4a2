"""The models that prove the whole chain, random but alive: fourteen for every change, eighty-four for the wide sweep."""

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, list_models

from tests.models.images import images
from tests.models.liven import liven, residual_blocks
from tests.models.yolo import Yolo

NAMES: tuple[str, ...] = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "densenet121",
    "squeezenet1_1",
    "googlenet",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "yolo",
)
NOT_PURE_CONV: tuple[str, ...] = ("convnext_tiny", "vit_b_16", "swin_t")
PURE_CONV: tuple[str, ...] = tuple(name for name in NAMES if name not in NOT_PURE_CONV)
"""Nets made of conv, batch norm, pooling, plain activations and linear; the others hold layer norms or attention."""

CLASSIFIERS: tuple[str, ...] = tuple(list_models(module=torchvision.models))
"""Every classifier of torchvision."""
SEGMENTERS: tuple[str, ...] = ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large")
EVERY: tuple[str, ...] = (*CLASSIFIERS, *SEGMENTERS, "yolo")
GIANTS: tuple[str, ...] = ("vit_l_16", "vit_l_32", "vit_h_14", "regnet_y_128gf")
"""Those of more than 300 million parameters."""


def native_resolution(name: str) -> int:
    """The image side that a model wants: 299 for Inception v3, 256 for Swin v2 (windows of 8), 224 for the others.

    The larger EfficientNets are trained at up to 600 and the segmenters at 520; they take any size.
    """
    if name == "inception_v3":
        return 299
    return 256 if name.startswith("swin_v2") else 224


def small_resolution(name: str) -> int:
    """The smallest useful image side, for checks of structure: most models at 96."""
    match name:
        case "maxvit_t":
            return 224  # windows of 7x7 at every stage
        case "inception_v3" | "yolo" | "googlenet" | "alexnet":
            return 128
        case "vit_h_14":
            return 112
        case _:
            return 96


def build(
    name: str, *, resolution: int | None = None, seed: int = 0, livened: bool = True
) -> tuple[nn.Module, torch.Tensor]:
    """One of `EVERY` in eval mode and an example image batch [1, 3, resolution, resolution], float32.

    The same arguments give the same weights; the global random state is left as it was.

    Args:
        resolution: square image side, by default `native_resolution`; a multiple of the patch for a ViT, of 32 for yolo,
            224 for maxvit_t, at least 64 for most others.
        livened: False keeps the degenerate start of the model's authors, for tests of the guard itself.

    Raises:
        ValueError: an unknown name.
    """
    if name not in EVERY:
        raise ValueError(f"no model {name!r} in the zoo; there are {', '.join(EVERY)}")
    resolution = resolution or native_resolution(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _fresh(name, resolution).eval()
    if livened:
        liven(model, _batches(resolution, seed), seed, branch_gain=_branch_gain(name, model))
    return model, images(1, resolution, seed=2 * seed + 1)


def _fresh(name: str, resolution: int) -> nn.Module:
    match name:
        case "yolo":
            return Yolo(resolution)
        case "googlenet" | "inception_v3":
            return get_model(name, weights=None, aux_logits=False, init_weights=True)
        case "maxvit_t":
            return get_model(name, weights=None, input_size=(resolution, resolution))
        case "fcn_resnet50" | "deeplabv3_resnet50":
            # As with the published weights: a second head and a second output, in evaluation too.
            return get_model(name, weights=None, weights_backbone=None, aux_loss=True)
        case "lraspp_mobilenet_v3_large":
            return get_model(name, weights=None, weights_backbone=None)
        case _ if name.startswith("vit_"):
            return get_model(name, weights=None, image_size=resolution)
        case _:
            return get_model(name, weights=None)


def _branch_gain(name: str, model: nn.Module) -> float:
    """EfficientNets deeper than B0 are chaotic without small branches."""
    if not name.startswith("efficientnet") or name == "efficientnet_b0":
        return 1.0
    return float(len(residual_blocks(model)) ** -0.5)


def _batches(resolution: int, seed: int) -> list[tuple[torch.Tensor, ...]]:
    """Two batches for the batch-norm statistics; small images need more of them, the last maps hold only 2x2 pixels."""
    size = 8 if resolution >= 160 else 16
    data = images(2 * size, resolution, seed=2 * seed)
    return [(data[:size],), (data[size:],)]
