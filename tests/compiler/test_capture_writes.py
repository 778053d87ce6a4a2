"""Capture: writes in place, through views, into constants, inputs and buffers."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload

from fxc.compiler.capture import capture
from fxc.compiler.errors import CaptureError
from fxc.compiler.origin import op_name


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def in_place_chain(x: Tensor) -> Tensor:
    return (x * 2).relu_().mul_(3).add_(x, alpha=2)


def earlier_reader(x: Tensor) -> Tensor:
    y = x * 2
    before = y + 1
    y.sub_(5)
    return before * y


def other_name(x: Tensor) -> Tensor:
    y = x * 2
    z = y.view(x.shape[0], -1)
    y.relu_()
    return z + 1


def through_reshape(x: Tensor) -> Tensor:
    y = x * 2
    y.flatten(1).clamp_(-0.5, 0.5)
    return y


def copied_reshape(x: Tensor) -> Tensor:
    y = x * 2
    y.transpose(1, 2).reshape(x.shape[0], -1).relu_()
    return y


def through_slice(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 1:3] *= 4
    y[:, -1] = 7
    return y


def slice_of_slice(x: Tensor) -> Tensor:
    y = x * 2
    window = y[:, :, 1:4]
    corner = window[:, 0]
    window[..., 1:] = x[..., 2:4]
    return y.sum(-1) + corner.sum(-1, keepdim=True)


def strided_slice(x: Tensor) -> Tensor:
    y = x * 2
    y[:, ::2] = 1.5
    return y


def through_permute(x: Tensor) -> Tensor:
    y = x * 2
    y.permute(2, 0, 1)[0].fill_(3)
    y.transpose(0, 1)[2].zero_()
    return y


def through_piece(x: Tensor) -> Tensor:
    y = x * 2
    a, b = y.chunk(2, 1)
    first, *_ = b.unbind(2)
    first.neg_()
    return y * a.sum()


def broadcast_copy(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :2].copy_(x[:, :1])
    return y


def mixed_types(x: Tensor) -> Tensor:
    y = (x * 10).to(torch.int32)
    y.add_(2)
    y[:, 0] = x[:, 1]
    return y.float().masked_fill_(x > 0, -1)


def through_diagonal(x: Tensor) -> Tensor:
    y = x * 2
    y.diagonal(dim1=1, dim2=2).fill_(1)
    return y


def through_dropout(x: Tensor) -> Tensor:
    y = x * 2
    F.dropout(y, training=False).relu_()
    return y


def shape_in_place(x: Tensor) -> Tensor:
    return (x * 2).unsqueeze_(1).transpose_(1, 2).squeeze_(2)


def of_the_input(x: Tensor) -> Tensor:
    x.mul_(2)
    return x + 1


def filled_mask(x: Tensor) -> Tensor:
    mask = x.new_zeros((4, 5))
    early = x + mask
    mask[1:3] = 2
    mask[:, 0].fill_(3)
    mask = mask.masked_fill(mask == 0, -100.0)
    return early * (x + mask)


def mask_from_input(x: Tensor) -> Tensor:
    mask = torch.zeros(4, 5)
    mask[0] = x[0, 0].mean()
    return x + mask


def literal_from_constant(x: Tensor) -> Tensor:
    return x * torch.tensor([1.0, 2.0, 3.0]).sum()


WRITES = [
    in_place_chain,
    earlier_reader,
    other_name,
    through_reshape,
    copied_reshape,
    through_slice,
    slice_of_slice,
    strided_slice,
    through_permute,
    through_piece,
    broadcast_copy,
    mixed_types,
    through_diagonal,
    through_dropout,
    shape_in_place,
    of_the_input,
    filled_mask,
    mask_from_input,
    literal_from_constant,
]


@pytest.mark.parametrize("function", WRITES, ids=lambda f: f.__name__)
def test_writes_become_values(function: Callable[[Tensor], Tensor]) -> None:
    program = capture(Lambda(function), torch.randn(1, 4, 5))
    for node in program.graph.nodes:
        assert not (isinstance(node.target, OpOverload) and node.target._schema.is_mutable)
    assert program.dynamic or function is mask_from_input
    x = torch.randn(3 if program.dynamic else 1, 4, 5)
    given = x.clone()
    torch.testing.assert_close(program(x), function(x.clone()))
    assert torch.equal(x, given)


def test_a_mask_is_stored_once_per_state() -> None:
    program = capture(Lambda(filled_mask), torch.randn(1, 4, 5))
    own = [n for n in program.graph.nodes if n.op == "get_attr"]
    assert len(own) == 2
    assert {op_name(n) for n in program.graph.nodes if n.op == "call_function"} == {"add", "mul"}


def test_a_simple_view_needs_no_decomposition() -> None:
    """Writes through slices and shapes keep the rest of the graph whole."""
    program = capture(Lambda(through_slice), torch.randn(1, 4, 5))
    assert not any("functional" in note.text for note in program.notes)
    assert any("functional" in n.text for n in capture(Lambda(through_diagonal), torch.randn(1, 4, 5)).notes)


def test_random_numbers_are_not_constants() -> None:
    program = capture(Lambda(lambda x: x + torch.rand(5)), torch.randn(1, 4, 5))
    assert "rand" in {op_name(n) for n in program.graph.nodes}


def test_an_overwritten_input_is_noted() -> None:
    program = capture(Lambda(of_the_input), torch.randn(1, 4, 5))
    assert any("overwrites its input x" in note.text for note in program.notes)


class Counter(nn.Module):
    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls if self.reads else x + 1


def test_state_that_reaches_an_output_is_refused() -> None:
    with pytest.raises(CaptureError, match="calls"):
        capture(Counter(reads=True), torch.randn(1, 2))


def test_state_that_reaches_no_output_is_dropped() -> None:
    model = Counter(reads=False)
    program = capture(model, torch.randn(1, 2))
    assert any("calls" in note.text for note in program.notes)
    assert not program.module().state_dict()
    assert float(model.calls) == 0
