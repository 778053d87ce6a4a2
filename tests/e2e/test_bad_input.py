"""What a compile must refuse: the right class, a message that names the place, and nothing left behind."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.compiler.errors import (
    CalibrationError,
    CaptureError,
    FxcError,
    InputError,
    LegalityError,
    UsageError,
)
from tests.e2e.nets import built, compiled, program
from tests.models.small import build_small, small_inputs

X = small_inputs("conv_chain", 4, 1)
IMAGES = X[0]
INT8 = ("cpu-int8", "ort-int8")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the test's own, in which fxc makes temporary ones."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def refused(
    kind: type[FxcError], *said: str, model: Any = None, target: str = "ort-int8", **words: Any
) -> None:
    """Compile, and hold the refusal against the class and the words that its message must have."""
    words.setdefault("example_inputs", X if model is not None else None)
    with pytest.raises(kind) as caught:
        fxc.compile(program("conv_chain") if model is None else model, target, **words)
    assert type(caught.value) is kind
    for word in said:
        assert word in str(caught.value), str(caught.value)
    # The traceback still holds every frame, so nothing was left to the garbage collector.
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(self.conv(x)).abs()


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.ops.fxc_e2e.twist(x)


class NoFake(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.ops.fxc_e2e.unknown(x)


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Chosen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Number(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.max().item()


@pytest.fixture(scope="module", autouse=True)
def operators() -> Iterator[None]:
    """Two operators of a package that fxc does not know: one that traces, one that does not."""
    library = torch.library.Library("fxc_e2e", "FRAGMENT")
    for name in ("twist", "unknown"):
        library.define(f"{name}(Tensor x) -> Tensor")
        library.impl(name, lambda x: x.flip(0) * 2, "CPU")
    torch.library.register_fake("fxc_e2e::twist", torch.empty_like, lib=library)
    yield
    library._destroy()


@pytest.mark.parametrize("target", ["cpu-int8", "ort-fp32"])
@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        (
            Spectrum,
            LegalityError,
            ("fft_rfft2", "test_bad_input.py:", "torch.fft.rfft2", "no lowering", "fix:"),
        ),
        (Custom, LegalityError, ("twist", "test_bad_input.py:", "no lowering")),
        (Number, LegalityError, ("item", "test_bad_input.py:", "x.max().item()")),
        (Random, LegalityError, ("randn_like", "no lowering")),
        (
            NoFake,
            CaptureError,
            ("fxc_e2e.unknown.default cannot be traced", "test_bad_input.py:", "register_fake"),
        ),
        (Branch, CaptureError, ("data-dependent control flow", "if x.sum() > 0", "torch.where")),
        (Chosen, CaptureError, ("depends on the values of the input", "x[x > 0]", "torch.where")),
    ],
)
def test_a_model_that_no_target_can_take(
    model: Callable[[], nn.Module], kind: type[FxcError], said: tuple[str, ...], target: str
) -> None:
    refused(kind, *said, model=model().eval(), target=target)


def test_lint_finds_the_same_without_building() -> None:
    found = fxc.lint(Spectrum(), "cpu-int8", example_inputs=X)
    assert found[0].layer == "fft_rfft2"
    assert found[0].fatal
    assert fxc.lint(program("conv_chain"), "cpu-int8") == []
    assert {
        v.layer for v in fxc.lint(build_small("conv_chain")[0].half(), "cpu-fp32", example_inputs=half())
    } >= {"head.weight"}


def test_a_refusal_comes_before_the_long_work() -> None:
    heard: list[str] = []
    with pytest.raises(LegalityError):
        fxc.compile(Spectrum(), "cpu-int8", example_inputs=X, progress=lambda stage, *_: heard.append(stage))
    assert heard[-1] == "legalize"
    assert "synthesize" not in heard


def half() -> tuple[Tensor, ...]:
    return (IMAGES.half(),)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("target", ["ort-int8", "cpu-fp32"])
def test_parameters_of_another_dtype(dtype: torch.dtype, target: str) -> None:
    model = build_small("conv_chain")[0].to(dtype)
    name = str(dtype).removeprefix("torch.")
    refused(
        LegalityError, "features.0.0.weight", name, "model.float()", model=model, target=target,
        example_inputs=(IMAGES.to(dtype),),
    )  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("target", ["ort-int8", "cpu-fp32"])
def test_parameters_that_are_no_numbers(value: float, target: str) -> None:
    model = build_small("conv_chain")[0]
    model.get_parameter("head.weight").data[0, 0] = value
    refused(LegalityError, "head.weight", "NaN or infinity", model=model, target=target)


def test_a_batch_norm_that_diverged() -> None:
    model = build_small("conv_chain")[0]
    model.get_buffer("features.1.1.running_var")[0] = float("nan")
    refused(CalibrationError, "features.1", "infinite or NaN", model=model, calibration_data=[X])


class Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.log(x))


def test_a_model_that_fails_on_one_batch_of_the_data() -> None:
    good, bad = IMAGES.abs() + 1, -IMAGES.abs() - 1
    refused(
        CalibrationError, "infinite or NaN", "log", "torch.log(x)", model=Log(), example_inputs=(good,),
        calibration_data=[good, good, torch.cat([good, good]), bad],
    )  # fmt: skip


@pytest.mark.parametrize(
    "model", [None, 3, nn.Linear, "weights.pth", torch.zeros(3), {"state": 1}], ids=lambda m: type(m).__name__
)
def test_something_that_is_no_model(model: Any) -> None:
    with pytest.raises(UsageError) as caught:
        fxc.compile(model, "ort-int8", example_inputs=X)
    assert "nn.Module" in str(caught.value)


def test_example_inputs_that_do_not_fit() -> None:
    model = built("conv_chain")[0]
    refused(
        CaptureError, "does not run on the example inputs", "4 channels", "small.py", "float32[1, 4, 8, 8]", model=model,
        example_inputs=(torch.zeros(1, 4, 8, 8),),
    )  # fmt: skip
    refused(InputError, "no sample", model=model, example_inputs=(IMAGES[:0],))
    refused(CaptureError, "none could be guessed", model=nn.ReLU(), example_inputs=None)


def broken(at: int) -> Iterator[Tensor]:
    for _ in range(at):
        yield IMAGES
    raise ValueError("the disk broke")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], ("empty", "fix:")),
        (iter(()), ("empty", "consumed iterator")),
        ([IMAGES, IMAGES * float("nan")], ("input x contains NaN or infinity", "calibration batch 1")),
        ([IMAGES + float("inf")], ("input x contains NaN or infinity", "calibration batch 0")),
        ([IMAGES, IMAGES[..., :16]], ("[4, 3, 32, 16]", "[batch, 3, 32, 32]", "calibration batch 1")),
        (list(IMAGES), ("[3, 32, 32]", "unsqueeze(0)", "calibration batch 0")),
        ([IMAGES[:0]], ("[0, 3, 32, 32]", "at least one sample")),
        ([IMAGES.double()], ("float64", "expected float32", "calibration batch 0")),
        ([(IMAGES, torch.zeros(4))], ("2 values", "takes 1 input", "without labels", "calibration batch 0")),
        ([{"image": IMAGES}], ("calibration batch 0", "x: float32")),
        ([IMAGES.numpy()], ("ndarray", "torch.from_numpy", "calibration batch 0")),
        ([None], ("NoneType", "calibration batch 0")),
        (broken(0), ("ValueError: the disk broke", "calibration batch 0")),
        (broken(2), ("ValueError: the disk broke", "calibration batch 2")),
        ("images/", ("got str", "DataLoader")),
        (Path("images"), ("PosixPath", "fxc compile --calibration-data")),
        (IMAGES.numpy(), ("ndarray", "list of tensors")),
        (5, ("got int",)),
    ],
)
def test_calibration_data_that_cannot_be_used(data: Any, said: tuple[str, ...]) -> None:
    refused(CalibrationError, *said, calibration_data=data)


@pytest.mark.parametrize(
    ("target", "observer"),
    [
        ("cpu-int8", "minmax"),
        *(("ort-int8", o) for o in ("minmax", "moving_average", "percentile", "mse", "entropy")),
    ],
)
def test_dead_channels_and_constant_activations(target: str, observer: str) -> None:
    model = build_small("conv_chain")[0]
    with torch.no_grad():
        model.get_parameter("features.0.0.weight")[2] = 0
        model.get_parameter("features.1.1.weight").zero_()
        model.get_parameter("head.weight")[3] = 0
    words = {"example_inputs": X, "calibration_data": [X], "observer": observer}
    artifact = fxc.compile(model, target, **words)
    finite(artifact)
    # All that passes the second block is its bias: the answer is one constant row, and it is the right one.
    wanted = model(*X).detach()
    assert float((artifact(*X) - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("target", INT8)
def test_a_calibration_of_zeros_is_said_aloud(target: str) -> None:
    artifact = compiled("conv_chain", target, calibration_data=[torch.zeros_like(IMAGES)])
    finite(artifact)
    told = [n for n in artifact.report["notes"] if n["kind"] == "warning"]
    assert any(n["layer"] == "x" and "always 0 on the calibration data" in n["text"] for n in told)


def test_a_model_whose_output_is_zero_is_said_aloud() -> None:
    model = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)  # type: ignore[arg-type]
    for target in ("cpu-int8", "ort-int8", "ort-fp32"):
        artifact = fxc.compile(model, target, example_inputs=X, calibration_data=[X])
        assert torch.equal(artifact(*X), torch.zeros(4, 4, 30, 30))
        assert any("cannot be judged" in n["text"] for n in artifact.report["notes"])


def finite(artifact: fxc.Artifact) -> None:
    """No NaN, infinity or zero among the scales, and no NaN in an answer."""
    scales = [row["scale"] for row in artifact.report["layers"] if row["quantized"]]
    assert scales
    assert all(0 < s < float("inf") for s in scales)
    for name, tensor in artifact.program.graph_module.named_buffers():
        if name.endswith("scale"):
            assert bool((tensor > 0).all() & tensor.isfinite().all()), name
    assert bool(artifact(*X).isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((IMAGES[..., :16],), "input x has shape [4, 3, 32, 16], expected [batch, 3, 32, 32]"),
        ((IMAGES[0],), "unsqueeze(0)"),
        ((IMAGES[:0],), "at least one sample"),
        ((IMAGES.double(),), "input x has dtype float64, expected float32"),
        ((IMAGES.numpy(),), "must be a tensor, got ndarray"),
        ((IMAGES, IMAGES), "takes 1 input(s), got 2"),
        ((), "takes 1 input(s), got 0"),
        (([IMAGES],), "another structure"),
    ],
)
def test_a_call_that_does_not_fit(arguments: tuple[Any, ...], said: str) -> None:
    for made in (artifact(), program("conv_chain")):
        with pytest.raises(InputError) as caught:
            made(*arguments)
        assert said in str(caught.value)
        assert "ConvChain" in str(caught.value)


def artifact() -> fxc.Artifact:
    return compiled("conv_chain", "ort-fp32", calibration_data=None)


def test_inputs_of_different_batches() -> None:
    image, vector = small_inputs("multi_io", 3, 1)
    with pytest.raises(InputError) as caught:
        compiled("multi_io", "ort-fp32")(image, vector[:2])
    assert "input vector has shape [2, 6]" in str(caught.value)


def test_a_fixed_batch_is_kept() -> None:
    made = fxc.compile(
        built("conv_chain")[0], "cpu-int8", example_inputs=X, dynamic_batch=False, calibration_data=[X]
    )
    with pytest.raises(InputError) as caught:
        made(IMAGES[:2])
    assert "[2, 3, 32, 32], expected [4, 3, 32, 32]" in str(caught.value)
    assert "dynamic_batch" in str(caught.value)


def test_a_quantized_program_is_not_quantized_again() -> None:
    refused(UsageError, "quantized already", model=compiled().program, example_inputs=None)
