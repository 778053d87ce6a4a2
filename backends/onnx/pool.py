"""Pooling. ONNX pools are written in floor mode with explicit pads: opsets disagree about what ceil mode means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs
import torch

from fxc.backends.onnx.conv import spread
from fxc.backends.onnx.dtypes import Array
from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Tensor, Writer

aten = torch.ops.aten

_MOVES = frozenset({"MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice"})


def max_pool(
    g: Writer,
    self: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Tensor:
    rank = _spatial_rank(g, self, kernel_size)
    kernel, dilation = spread(kernel_size, rank), spread(dilation, rank)
    stride = spread(stride or kernel, rank)
    pads = _pads(g, self, kernel, stride, spread(padding, rank), dilation, ceil_mode)
    attributes = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
    _keep_zeros(g, self)
    # ONNX Runtime takes only pads below the kernel's size; a dilated window may hang over further.
    if any(pad >= size for pad, size in zip(pads, kernel * 2)):
        return _batched(g, self, rank, lambda x: g.op("MaxPool", _lowest_around(g, x, pads), **attributes))
    return _batched(g, self, rank, lambda x: g.op("MaxPool", x, pads=pads, **attributes))


def _lowest_around(g: Writer, x: Tensor, pads: list[int]) -> Tensor:
    """``x`` with its pads as data that no maximum is made of."""
    rank = len(pads) // 2
    widths = g.ints([0, 0, *pads[:rank], 0, 0, *pads[rank:]])
    lowest = -np.inf if g.dtype.kind == "f" else np.iinfo(g.dtype).min
    return g.op("Pad", x, widths, g.constant(lowest, g.dtype), mode="constant")


def avg_pool(
    g: Writer,
    self: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    rank = _spatial_rank(g, self, kernel_size)
    kernel = spread(kernel_size, rank)
    stride, padding = spread(stride or kernel, rank), spread(padding, rank)
    pads = _pads(g, self, kernel, stride, padding, [1] * rank, ceil_mode)
    _keep_zeros(g, self)
    counted = count_include_pad and any(padding)
    # Windows that ceil mode lets hang over the padding count only what lies inside it: so where padding counts, it is
    # written as zeros of the data, and the overhang as pads that do not count.
    explicit = counted and pads[rank:] != padding
    if counted and not explicit and _shifted(self):
        return _batched(g, self, rank, lambda x: _sum_of_codes(g, x, kernel, stride, pads))

    def build(x: Tensor) -> Tensor:
        if explicit:
            zeros = g.ints([0, 0, *padding, 0, 0, *padding])
            x = g.op("Pad", x, zeros, mode="constant")
        rest = [p - q for p, q in zip(pads, padding * 2)] if explicit else pads
        return g.op(
            "AveragePool",
            x,
            kernel_shape=kernel,
            strides=stride,
            pads=rest,
            count_include_pad=int(counted and not explicit),
        )

    return _batched(g, self, rank, build)


def avg_pool_divisor(
    g: Writer,
    self: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    if divisor_override is None:
        return avg_pool(g, self, kernel_size, stride, padding, ceil_mode, count_include_pad)
    rank = _spatial_rank(g, self, kernel_size)
    kernel = spread(kernel_size, rank)
    stride, padding = spread(stride or kernel, rank), spread(padding, rank)
    pads = _pads(g, self, kernel, stride, padding, [1] * rank, ceil_mode)
    mean = _batched(g, self, rank, lambda x: _mean_with_pads(g, x, kernel, stride, pads))
    return g.op("Mul", mean, g.constant(int(np.prod(kernel)) / divisor_override))


def _mean_with_pads(g: Writer, x: Tensor, kernel: list[int], stride: list[int], pads: list[int]) -> Tensor:
    """Every window divided by its full size: pads, and what ceil mode lets hang over, count as zeros."""
    if any(pads) and _shifted(x):
        return _sum_of_codes(g, x, kernel, stride, pads)
    counted = int(any(pads))
    return g.op("AveragePool", x, kernel_shape=kernel, strides=stride, pads=pads, count_include_pad=counted)


def adaptive_avg_pool(g: Writer, self: Tensor, output_size: Sequence[int]) -> Tensor:
    """GlobalAveragePool for size one, AveragePool where sizes divide, else one matrix product per dimension."""
    rank = len(output_size)
    if all(size == 1 for size in output_size):
        return _batched(g, self, rank, lambda x: g.op("GlobalAveragePool", x))
    kernel = _even_windows(g, self, output_size)
    if kernel is None:
        return _average_by_product(g, self, output_size)
    if all(k == 1 for k in kernel):
        return self
    attributes = {"kernel_shape": kernel, "strides": kernel}
    return _batched(g, self, rank, lambda x: g.op("AveragePool", x, **attributes))


def max_pool_with_indices(
    g: Writer,
    self: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> tuple[Tensor, None]:
    """The values; the indices have no lowering."""
    return max_pool(g, self, kernel_size, stride, padding, dilation, ceil_mode), None


def adaptive_max_pool(g: Writer, self: Tensor, output_size: Sequence[int]) -> tuple[Tensor, None]:
    """The values; the indices have no lowering."""
    rank = len(output_size)
    if all(size == 1 for size in output_size):
        pooled = _batched(g, self, rank, lambda x: g.op("GlobalMaxPool", x))
        return pooled, None
    kernel = _even_windows(g, self, output_size)
    if kernel is None:
        g.refuse(
            f"an adaptive max pool from {list(self.shape[-rank:])} to {list(output_size)}: sizes must divide"
        )
    attributes = {"kernel_shape": kernel, "strides": kernel}
    _keep_zeros(g, self)
    pooled = _batched(g, self, rank, lambda x: g.op("MaxPool", x, **attributes))
    return pooled, None


def _keep_zeros(g: Writer, x: Tensor) -> None:
    """Keep the zeros that a Pad in front of a pool adds.

    ONNX Runtime 1.31 merges a Pad with the value 0 into the pool behind it. A max pool's own pads do not count, so zeros
    above negative values are lost, and pads as wide as the window are refused. The smallest float is not 0 to it.
    """
    if not x.inputs or x.inputs[0].op != "Pad" or x.inputs[0].attrs.get("mode") != "constant":
        return
    pad = x.inputs[0]
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    if (value is None or not np.any(value.values)) and np.dtype(g.dtype).kind == "f":
        smallest = g.constant(np.finfo(g.dtype).tiny, g.dtype, name=f"{pad.name}.zero")
        pad.inputs = [*pad.inputs[:2], smallest]


def _spatial_rank(g: Writer, x: Tensor, kernel: list[int]) -> int:
    return len(kernel) if len(kernel) > 1 else len(x.shape) - 2


def _shifted(x: Tensor) -> bool:
    """Whether ``x`` holds dequantized codes with a zero point other than 0, moved about at most."""
    while x.inputs and x.inputs[0].op in _MOVES:
        x = x.inputs[0].inputs[0]
    if not x.inputs or x.inputs[0].op != "DequantizeLinear":
        return False
    zero_point = x.inputs[0].inputs[2:]
    return not all(isinstance(z, gs.Constant) and not np.any(z.values) for z in zero_point)


def _sum_of_codes(g: Writer, x: Tensor, kernel: list[int], stride: list[int], pads: list[int]) -> Tensor:
    """The average as an integer convolution per channel, with ones as weights.

    OpenVINO moves an average pool in front of the dequantizer and counts its padding as codes of 0, a Pad node as well,
    which it merges into the pool. Where code 0 is not zero that is wrong. A convolution pads with the zero point.
    """
    channels = g.known(x, 1)
    ones = g.constant(np.ones((channels, 1, *kernel), np.int8), name=f"{g.label}.ones")
    step = g.constant(1 / int(np.prod(kernel)), np.float32, name=f"{g.label}.ones.scale")
    weight = g.op("DequantizeLinear", ones, step, g.constant(np.int8(0), name=f"{g.label}.ones.zero_point"))
    return g.op("Conv", x, weight, kernel_shape=kernel, strides=stride, pads=pads, group=channels)


def _batched(g: Writer, x: Tensor, rank: int, build: Callable[[Tensor], Tensor]) -> Tensor:
    """Give ``build`` an input with batch and channel dimensions."""
    if len(x.shape) == rank + 2:
        return build(x)
    return g.squeeze(build(g.unsqueeze(x, 0)), 0)


def _pads(
    g: Writer,
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> list[int]:
    """Begin and end pads with which floor mode gives PyTorch's output size."""
    if not ceil_mode:
        return padding * 2
    rank, ends = len(kernel), []
    for i in range(rank):
        size, out = g.known(x, i - rank), g.shape[i - rank]
        reach = (int(out) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        ends.append(max(reach - size - padding[i], padding[i]))
    return padding + ends


def _even_windows(g: Writer, x: Tensor, output_size: Sequence[int]) -> list[int] | None:
    rank = len(output_size)
    sizes = [g.known(x, i - rank) for i in range(rank)]
    if any(size % out for size, out in zip(sizes, output_size)):
        return None
    return [size // out for size, out in zip(sizes, output_size)]


def _average_by_product(g: Writer, x: Tensor, output_size: Sequence[int]) -> Tensor:
    rank, last = len(output_size), len(x.shape) - 1
    for i, out in enumerate(output_size):
        matrix = _averaging_matrix(g.known(x, i - rank), out)
        axis = last - rank + 1 + i
        order = [d for d in range(last + 1) if d != axis] + [axis]
        back = [order.index(d) for d in range(last + 1)]
        turned = x if axis == last else g.op("Transpose", x, perm=order)
        product = g.op("MatMul", turned, g.constant(matrix.T.astype(g.dtype)))
        shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
        x = product if axis == last else g.op("Transpose", product, perm=back)
        x.shape = shape
    return x


def _averaging_matrix(size: int, out: int) -> Array:
    """``[out, size]``: row i averages the elements floor(i·size/out) … ceil((i+1)·size/out)."""
    matrix = np.zeros((out, size))
    for i in range(out):
        low, high = i * size // out, -(-(i + 1) * size // out)
        matrix[i, low:high] = 1 / (high - low)
    return matrix


LOWERINGS = lowerings(
    {
        aten.max_pool1d.default: max_pool,
        aten.max_pool2d.default: max_pool,
        aten.max_pool3d.default: max_pool,
        aten.max_pool2d_with_indices.default: max_pool_with_indices,
        aten.max_pool3d_with_indices.default: max_pool_with_indices,
        aten.avg_pool1d.default: avg_pool,
        aten.avg_pool2d.default: avg_pool_divisor,
        aten.avg_pool3d.default: avg_pool_divisor,
        aten.adaptive_avg_pool1d.default: adaptive_avg_pool,
        aten.adaptive_avg_pool2d.default: adaptive_avg_pool,
        aten.adaptive_avg_pool3d.default: adaptive_avg_pool,
        aten._adaptive_avg_pool2d.default: adaptive_avg_pool,
        aten.adaptive_max_pool1d.default: adaptive_max_pool,
        aten.adaptive_max_pool2d.default: adaptive_max_pool,
        aten.adaptive_max_pool3d.default: adaptive_max_pool,
    }
)
