"""Capture: a dynamic batch where the model allows one, a fixed one and a note where it does not."""

import pytest
import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.errors import CaptureError, InputError
from fxc.compiler.program import Program


class Hard(nn.Module):
    """Writes its batch size into a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.view(1, -1))


class Squeezes(nn.Module):
    """Another number of axes for a single sample: traced with two, wrong for one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze() * 2


class Limited(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] > 4 else x - 1


class Two(nn.Module):
    def forward(self, image: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        return image * 2, vector + 1


class Grid(nn.Module):
    def forward(self, image: Tensor, grid: Tensor) -> Tensor:
        return image + grid.sum(0)


def warnings_of(program: Program) -> list[str]:
    return [note.text for note in program.notes if note.kind == "warning"]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_dynamic_batch_from_any_example(batch: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    program = capture(model, torch.randn(batch, 3, 4))
    assert program.inputs[0].shape == ("batch", 3, 4)
    assert program.outputs[0].shape == ("batch", 2)
    assert program.example_inputs[0].shape[0] == batch
    for size in (1, 2, 5):
        x = torch.randn(size, 3, 4)
        torch.testing.assert_close(program(x), model(x).detach())


def test_a_model_that_fixes_its_batch() -> None:
    model = Hard()
    program = capture(model, torch.randn(1, 3, 4))
    assert program.inputs[0].shape == (1, 3, 4)
    assert any("fixed batch of 1" in text for text in warnings_of(program))
    x = torch.randn(1, 3, 4)
    torch.testing.assert_close(program(x), model(x).detach())
    with pytest.raises(InputError, match="expected"):
        program(torch.randn(2, 3, 4))


def test_the_reason_names_the_models_condition() -> None:
    program = capture(Limited(), torch.randn(2, 3))
    assert program.inputs[0].shape == (2, 3)
    (text,) = warnings_of(program)
    assert "<= 4" in text
    assert "test_capture_batch.py" in text


def test_a_graph_that_is_wrong_for_one_sample_is_not_kept() -> None:
    program = capture(Squeezes(), torch.randn(1, 3))
    assert program.inputs[0].shape == (1, 3)
    assert program(torch.ones(1, 3)).shape == (3,)
    assert any("differs" in text for text in warnings_of(program))


def test_the_user_decides() -> None:
    assert not capture(Two(), (torch.ones(2, 3), torch.ones(2, 4)), dynamic_batch=False).dynamic
    with pytest.raises(CaptureError, match="batch"):
        capture(Hard(), torch.randn(1, 3, 4), dynamic_batch=True)
    with pytest.raises(CaptureError, match="differs"):
        capture(Squeezes(), torch.randn(1, 3), dynamic_batch=True)


def test_inputs_that_never_meet_share_the_batch() -> None:
    program = capture(Two(), (torch.ones(1, 3), torch.ones(1, 4)))
    assert [spec.shape for spec in program.inputs] == [("batch", 3), ("batch", 4)]
    with pytest.raises(InputError):
        program(torch.ones(2, 3), torch.ones(3, 4))


def test_an_input_without_the_batch_axis_stays_fixed() -> None:
    program = capture(Grid(), (torch.ones(1, 4), torch.ones(6, 4)))
    assert [spec.shape for spec in program.inputs] == [("batch", 4), (6, 4)]


def test_no_sample() -> None:
    with pytest.raises(InputError, match="no sample"):
        capture(Two(), (torch.ones(0, 3), torch.ones(0, 4)))
