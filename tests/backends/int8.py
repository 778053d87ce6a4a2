"""Hand-made integer nets: quantize and dequantize written out, with scales that are powers of two.

With such scales every product and sum of the float graph is exact in float32, so what an integer runtime computes can
be compared bit for bit.
"""

import torch
from torch import Tensor, nn

from fxc.compiler import qdq


def requantized(x: Tensor, scale: float, zero_point: int = 0) -> Tensor:
    """quantize to u8, dequantize"""
    codes = qdq.QUANTIZE_TENSOR(x, scale, zero_point, 0, 255, torch.uint8)
    return qdq.DEQUANTIZE_TENSOR(codes, scale, zero_point)


class _Weighted(nn.Module):
    """An integer weight per output channel and an int32 bias at scale ``s_x * s_w``."""

    def __init__(self, shape: tuple[int, ...], x_scale: float) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        exponents = torch.randint(-7, -4, (shape[0],), generator=rng)
        scale = 2.0 ** exponents.float()
        self.register_buffer("codes", torch.randint(-127, 128, shape, dtype=torch.int8, generator=rng))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(shape[0], dtype=torch.int8))
        self.register_buffer("bias", torch.randint(-500, 500, (shape[0],), dtype=torch.int32, generator=rng))
        self.register_buffer("bias_scale", scale * x_scale)
        self.register_buffer("bias_zero", torch.zeros(shape[0], dtype=torch.int32))

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        weight = qdq.DEQUANTIZE_CHANNEL(self.codes, self.scale, self.zero, 0)
        return weight, qdq.DEQUANTIZE_CHANNEL(self.bias, self.bias_scale, self.bias_zero, 0)


class Int8Conv(_Weighted):
    """quantize -> conv (-> relu) -> quantize"""

    def __init__(
        self,
        c_in: int = 4,
        c_out: int = 8,
        kernel: int = 3,
        relu: bool = True,
        groups: int = 1,
        zero_point: int = 0,
    ) -> None:
        super().__init__((c_out, c_in // groups, kernel, kernel), 2**-5)
        self.relu, self.groups, self.zero_point = relu, groups, zero_point

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight_and_bias()
        y = torch.conv2d(requantized(x, 2**-5, 128), weight, bias, padding=1, groups=self.groups)
        return requantized(y.relu() if self.relu else y, 2**-2, self.zero_point)


class Int8Linear(_Weighted):
    """quantize -> linear -> quantize, on inputs of any rank"""

    def __init__(self, c_in: int = 16, c_out: int = 8) -> None:
        super().__init__((c_out, c_in), 2**-5)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight_and_bias()
        return requantized(nn.functional.linear(requantized(x, 2**-5, 128), weight, bias), 2**-3, 121)


class Int8Net(nn.Module):
    """Two convolutions with a residual sum, a global pool and a linear layer, all on integers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Int8Conv(4, 8)
        self.second = Int8Conv(8, 8)
        self.head = Int8Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = requantized(torch.relu(y + self.second(y)), 2**-1)
        y = requantized(nn.functional.adaptive_avg_pool2d(y, 1), 2**-2)
        return self.head(y.flatten(1))
