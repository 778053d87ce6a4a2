"""The bytes of an image instead of a normalised tensor."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxc.compiler.errors import CalibrationError, UsageError
from fxc.passes.image_input import ImageInput
from tests.passes.checks import Fn, assert_same, canonical, operators, run

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bytes_of_images(count: int = 2, channels: int = 3) -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, 9, 7), dtype=np.uint8)
    return torch.from_numpy(pixels)


def normalised(image: Tensor) -> Tensor:
    """What torchvision's ``ToTensor`` and ``Normalize`` make of an RGB image."""
    column = (1, -1, 1, 1)
    return (image.double() / 255 - torch.tensor(MEAN, dtype=torch.double).reshape(column)).div(
        torch.tensor(STD, dtype=torch.double).reshape(column)
    )


def convolutions() -> nn.Module:
    """Two readers of the image, one of them with padding, which no folding of the mean survives."""
    state = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(3, 8, 1)}
    return Fn(lambda m, x: m.a(x).relu() + m.b(x), **state)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_bytes_in_give_what_the_model_makes_of_the_normalised_image(order: str, dynamic: bool) -> None:
    model, image = convolutions(), bytes_of_images()
    step = ImageInput(order, MEAN, STD)
    got = run(step, canonical(model, normalised(image).float(), dynamic=dynamic))
    assert [(s.dtype, s.shape[1:]) for s in got.inputs] == [("uint8", (3, 9, 7))]
    assert operators(got)[:3] == ["to", "sub", "mul"]
    assert "flip" not in operators(got)
    handed = image if order == "rgb" else image.flip(1).contiguous()
    answer = got(handed).double()
    torch.testing.assert_close(answer, model.double()(normalised(image)).detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(got.example_inputs[0], handed)


def test_the_order_goes_into_the_weights() -> None:
    model, image = convolutions(), normalised(bytes_of_images()).float()
    got = run(ImageInput("bgr", MEAN, STD), canonical(model, image))
    shift, scale = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    state = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(3, 8, 1), "shift": shift, "scale": scale}

    def expected(m: nn.Module, x: Tensor) -> Tensor:
        x = (x.to(torch.float32) - m.shift) * m.scale
        return m.a(x).relu() + m.b(x)

    assert_same(got, canonical(Fn(expected, **state), bytes_of_images()))
    weights = [got.tensor(str(n.args[1].target)) for n in got.graph.nodes if n.target is CONV]
    torch.testing.assert_close(weights[0], model.a.weight.detach().flip(1), rtol=0, atol=0)


CONV = torch.ops.aten.conv2d.default
NOT_FOLDED = {
    "grouped": Fn(lambda m, x: m.c(x), c=nn.Conv2d(3, 6, 3, groups=3)),
    "read by something else": Fn(lambda m, x: m.c(x) + x.mean(), c=nn.Conv2d(3, 6, 3)),
    "no convolution": Fn(lambda m, x: x.relu() * m.w, w=torch.rand(1, 3, 1, 1)),
    "a weight that is computed": Fn(lambda m, x: torch.conv2d(x, m.w * x.mean()), w=torch.rand(4, 3, 2, 2)),
}


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_elsewhere_the_channels_are_turned_in_the_graph(name: str) -> None:
    model, image = NOT_FOLDED[name], bytes_of_images()
    got = run(ImageInput("bgr", MEAN, STD), canonical(model, normalised(image).float()))
    assert operators(got).count("flip") == 1
    with torch.no_grad():
        want = model(normalised(image).float())
    torch.testing.assert_close(got(image.flip(1).contiguous()), want, rtol=1e-4, atol=1e-5)


def test_a_weight_that_others_read_stays_theirs() -> None:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    model = Fn(lambda m, x: m.c(x) + torch.conv2d(x * 2, m.c.weight), c=conv)
    image = bytes_of_images()
    got = run(ImageInput("bgr", MEAN, STD), canonical(model, normalised(image).float()))
    with torch.no_grad():
        want = model(normalised(image).float())
    torch.testing.assert_close(got(image.flip(1).contiguous()), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_encoding_is_the_inverse_to_the_byte(order: str) -> None:
    step, image = ImageInput(order, MEAN, STD), bytes_of_images(8)
    assert torch.equal(step.encode(step.decode(image)), image)
    rgb = image if order == "rgb" else image.flip(1)
    torch.testing.assert_close(step.decode((image, {"n": 3})), (normalised(rgb).float(), {"n": 3}))
    floats = torch.randn(2, 3, 4, 4)
    assert step.decode(floats) is floats
    assert step.encode(image) is image


def test_bytes_of_another_shape_are_no_image() -> None:
    with pytest.raises(CalibrationError, match=r"shape \[N, 3, H, W\], got \[2, 1, 9, 7\]"):
        ImageInput("rgb", MEAN, STD).decode((bytes_of_images(2, 1),))


def test_what_is_no_byte_is_cut() -> None:
    step = ImageInput("gray", (0.0,), (1.0,))
    assert step.encode(torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 1, 3, 1)).flatten().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("order", "mean", "std", "says"),
    [
        ("brg", MEAN, STD, "'rgb', 'bgr', 'gray'; got 'brg'"),
        ("gray", MEAN, STD, "1 channel"),
        ("rgb", MEAN, (0.2, 0.2), "std 2"),
        ("rgb", MEAN, (0.2, 0.0, 0.2), "std must be positive"),
    ],
)
def test_options_that_make_no_sense(
    order: str, mean: tuple[float, ...], std: tuple[float, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        ImageInput(order, mean, std)


@pytest.mark.parametrize(
    "x",
    [torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8), torch.randn(2, 3, 8, 8).double(), bytes_of_images()],
    ids=["four channels", "no image", "double", "bytes already"],
)
def test_a_model_without_such_an_input(x: Tensor) -> None:
    model = Fn(lambda m, x: x + x)
    with pytest.raises(UsageError, match=r"needs a model with one input, float32 \[N, 3, H, W\]"):
        ImageInput("rgb", MEAN, STD).apply(canonical(model, x))


def test_a_model_with_two_inputs() -> None:
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(UsageError, match="takes "):
        ImageInput("rgb", MEAN, STD).apply(canonical(Fn(lambda m, x, y: x + y), x, x))
