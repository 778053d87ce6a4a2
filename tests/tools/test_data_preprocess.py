"""Our preprocessing against torchvision's own transforms, pixel for pixel."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.models import get_model_weights

from fxc.compiler.errors import UsageError
from fxc.tools.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, from_weights, given

SHAPE = ("batch", 3, 224, 224)


def photo(width: int = 310, height: int = 270, mode: str = "RGB") -> Image.Image:
    """Smooth shading with noise, so that interpolation modes differ."""
    grid = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 90, width))[..., None]
    noise = np.random.default_rng(0).normal(0, 20, (height, width, 3))
    return Image.fromarray(np.clip(grid + noise, 0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3", "vit_h_14"])
def test_the_weights_own_preprocessing(name: str) -> None:
    weights = get_model_weights(name).DEFAULT
    ours = from_weights(weights)
    assert ours is not None
    assert torch.equal(ours(photo()), weights.transforms()(photo()))


def test_weights_that_do_not_classify_have_no_preprocessing() -> None:
    assert from_weights(get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT) is None


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_the_users_numbers_follow_the_usual_recipe(mode: str) -> None:
    ours = given([96], [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], ("batch", 3, "h", "w"))
    recipe = T.Compose(
        [
            T.Lambda(lambda im: im.convert("RGB")),
            T.Resize(110),
            T.CenterCrop(96),
            T.ToTensor(),
            T.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        ]
    )
    assert torch.equal(ours(photo(mode=mode)), recipe(photo(mode=mode)))


def test_without_words_an_image_input_gets_its_own_size_and_imagenets_numbers() -> None:
    assert given(None, None, None, SHAPE) == Preprocessing(
        (224, 224), (256,), IMAGENET_MEAN, IMAGENET_STD, said="ImageNet's mean and deviation"
    )
    grey = given(None, None, None, ("batch", 1, 20, 30))
    assert grey(photo()).shape == (1, 20, 30)
    assert float(grey(photo()).max()) <= 1.0


def test_the_users_words_go_over_the_weights() -> None:
    base = from_weights(get_model_weights("efficientnet_b0").DEFAULT)
    changed = given(None, [0.5, 0.5, 0.5], None, SHAPE, base)
    assert changed.mean == (0.5, 0.5, 0.5)
    assert changed.std == IMAGENET_STD
    assert changed.interpolation == "bicubic"
    assert changed.resize == (256,)
    assert given([128], None, None, SHAPE, base).resize == (146,)


def test_it_survives_a_manifest() -> None:
    ours = from_weights(get_model_weights("swin_t").DEFAULT)
    assert ours is not None
    assert Preprocessing.from_json(ours.to_json()) == ours


@pytest.mark.parametrize(
    ("size", "mean", "std", "shape", "message"),
    [
        (None, [0.5], None, SHAPE, "one value per channel"),
        (None, None, [0.2, 0.0, 0.2], SHAPE, "std must be positive"),
        ([0], None, None, SHAPE, "must be positive"),
        (None, None, None, ("batch", 3, "h", "w"), "--size 224"),
        (None, None, None, ("batch", 7, 8, 8), "do not fit"),
    ],
)
def test_numbers_that_make_no_sense(size, mean, std, shape, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as caught:
        given(size, mean, std, shape)
    assert message in str(caught.value)
