"""Capture: what cannot become a graph is refused with the model's own line and a way out."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.errors import CaptureError, UsageError


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the line to be named
            return x + 1
        return x - 1


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.decide = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self.stem(x))


class Selects(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0] * 2


class Leaves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values = x.numpy()
        return x + sum(float(value) for value in memoryview(values.copy()).cast("B"))


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v - 1, (x,))


class Casts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x.transpose(0, 1)


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, x.shape[0]


class Counts(nn.Module):
    """Python state: a graph is one of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


def failure(model: Any, *args: Any, **kwargs: Any) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        capture(model, args, **kwargs)
    return caught.value


def test_data_dependent_control_flow_names_layer_and_line() -> None:
    error = failure(Outer(Inner()), torch.randn(1, 3))
    line = Inner.forward.__code__.co_firstlineno + 1
    assert "data-dependent" in error.what
    assert error.where == f"decide (test_capture_errors.py:{line}  if x.sum() > 0:  # the line to be named)"
    assert "torch.where" in str(error)


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (Selects(), torch.randn(3, 3), "values of"),
        (Leaves(), torch.ones(1, 3), "NumPy"),
        (Branches(), torch.randn(2, 3), "cond"),
        (Casts(), torch.randn(2, 3), "autocast"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_no_graph_can_hold(model: nn.Module, inputs: Tensor, words: str) -> None:
    error = failure(model, inputs)
    assert words in str(error)
    assert error.fix
    assert "test_capture_errors.py" in (error.where or "")


@functools.cache
def opaque_operator() -> Any:
    @torch.library.custom_op("fxc_tests::opaque", mutates_args=())
    def opaque(x: Tensor) -> Tensor:
        return x.clone()

    return opaque


def test_an_operator_without_a_shape_rule() -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return opaque_operator()(x) + 1

    error = failure(Opaque(), torch.randn(1, 3))
    assert "fxc_tests" in error.what
    assert "register_fake" in str(error)


def test_inputs_that_the_model_does_not_take() -> None:
    error = failure(Outer(nn.ReLU()), torch.randn(1, 5))
    assert "does not run on the example inputs" in error.what
    assert "float32[1, 5]" in str(error)
    assert "example inputs" in failure(Outer(nn.ReLU()), torch.randn(1, 3), torch.randn(1, 3)).what


def test_python_state_is_found_by_running() -> None:
    assert "differs from the model" in failure(Counts(), torch.ones(1, 3)).what


class Noise(nn.Module):
    """The graph drops the first draw, which nobody reads, so the second one differs."""

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3, generator=None)
        return x + torch.rand(3, generator=None)


def test_a_random_model_is_kept_with_a_note() -> None:
    program = capture(Noise(), torch.ones(1, 3))
    assert any("random" in note.text for note in program.notes)


def test_a_size_as_result() -> None:
    assert "size" in failure(Sizes(), torch.ones(2, 3)).what
    program = capture(Sizes(), torch.ones(2, 3), dynamic_batch=False)
    assert program(torch.ones(2, 3))[1] == 2


def test_not_a_model() -> None:
    with pytest.raises(UsageError, match="not a model"):
        capture(lambda x: x)
    with pytest.raises(UsageError, match=r"\.pt2"):
        capture("model.onnx")
    with pytest.raises(CaptureError, match="TorchScript"):
        capture(torch.jit.trace(nn.ReLU(), torch.ones(1)), torch.ones(1))


def test_nothing_to_guess_inputs_from() -> None:
    with pytest.raises(CaptureError, match="example inputs"):
        capture(nn.ReLU())
