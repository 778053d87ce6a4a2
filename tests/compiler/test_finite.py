"""Whether a tensor holds numbers only."""

import pytest
import torch

from fxc.compiler.finite import all_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 500, 1023])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.complex64])
def test_one_bad_element(value: float, place: int, dtype: torch.dtype) -> None:
    tensor = torch.linspace(-1, 1, 1024).to(dtype)
    assert all_finite(tensor.reshape(4, 16, 16))
    tensor[place] = value
    assert not all_finite(tensor.reshape(4, 16, 16))


@pytest.mark.parametrize(
    "tensor",
    [torch.empty(0, 3), torch.zeros(()), torch.full((3,), torch.finfo(torch.float32).max), torch.arange(5),
     torch.tensor([True, False])],
)  # fmt: skip
def test_numbers(tensor: torch.Tensor) -> None:
    assert all_finite(tensor)
