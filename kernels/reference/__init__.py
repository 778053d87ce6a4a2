"""Reference kernels: numpy, exact integers in int64, one stated rounding. Right first, fast enough for real layers."""

from fxc.kernels.reference.conv import conv, qlinear_conv
from fxc.kernels.reference.elementwise import Coded, add, concat, mul, qlinear_add, qlinear_mul
from fxc.kernels.reference.gemmlowp import quantize_multiplier, requantize_fixed_point
from fxc.kernels.reference.linear import linear, matmul, qgemm, qlinear_matmul
from fxc.kernels.reference.pool import average_pool, global_average_pool, max_pool, qlinear_average_pool
from fxc.kernels.reference.quantize import Rounding, dequantize, quantize
from fxc.kernels.reference.requantize import output_multiplier, requantize

__all__ = [
    "Coded",
    "Rounding",
    "add",
    "average_pool",
    "concat",
    "conv",
    "dequantize",
    "global_average_pool",
    "linear",
    "matmul",
    "max_pool",
    "mul",
    "output_multiplier",
    "qgemm",
    "qlinear_add",
    "qlinear_average_pool",
    "qlinear_conv",
    "qlinear_matmul",
    "qlinear_mul",
    "quantize",
    "quantize_multiplier",
    "requantize",
    "requantize_fixed_point",
]
