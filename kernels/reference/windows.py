"""Sliding windows over the spatial axes of [N, C, *spatial], shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import InputError
from fxc.kernels.reference.quantize import Scalar

PerAxis = int | Sequence[int]


def per_axis(value: PerAxis, rank: int, name: str) -> tuple[int, ...]:
    """One value per spatial axis."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise InputError(f"{name} {values} for {rank} spatial axes")
    return values


def begin_and_end(padding: PerAxis, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding as (begins, ends): one number, one per axis, or ONNX's ``pads`` (all begins, then all ends)."""
    if not isinstance(padding, int) and len(padding) == 2 * rank and rank > 0:
        return tuple(padding[:rank]), tuple(padding[rank:])
    both = per_axis(padding, rank, "padding")
    return both, both


@dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution or pooling lie; one entry per spatial axis.

    ``ceil_mode`` keeps a last, partial window where it starts inside the input or its begin padding (PyTorch's rule;
    ONNX's since opset 19).
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        stride: PerAxis,
        padding: PerAxis,
        dilation: PerAxis,
        ceil_mode: bool = False,
    ) -> Windows:
        """From the looser spellings that operators use."""
        rank = len(kernel)
        begin, end = begin_and_end(padding, rank)
        strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
        if min(*kernel, *strides, *dilations) < 1 or min(*begin, *end) < 0:
            raise InputError("a kernel, stride or dilation below one, or a negative padding")
        return cls(tuple(kernel), strides, dilations, begin, end, ceil_mode)

    @property
    def extent(self) -> tuple[int, ...]:
        """Input cells from the first to the last tap of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))

    def tail(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Cells past the end padding that ``ceil_mode``'s last window reaches."""
        return tuple(self._tail(axis, length) for axis, length in enumerate(spatial))

    def _tail(self, axis: int, length: int) -> int:
        begin, end, stride, extent = self.begin[axis], self.end[axis], self.stride[axis], self.extent[axis]
        free = length + begin + end - extent
        if free < 0:
            raise InputError(f"a window of {extent} cells does not fit {length + begin + end} padded cells")
        last = -(-free // stride) * stride
        return last - free if self.ceil_mode and last > free and last < length + begin else 0

    def padded(self, x: npt.NDArray[Scalar], fill: int, tail_fill: int | None = None) -> npt.NDArray[Scalar]:
        """``x`` with its padding, and with the tail that ``ceil_mode`` needs (filled alike unless told)."""
        tail = self.tail(x.shape[2:])
        batch = [(0, 0), (0, 0)]
        x = np.pad(x, [*batch, *zip(self.begin, self.end)], constant_values=fill)
        return np.pad(
            x, [*batch, *((0, t) for t in tail)], constant_values=fill if tail_fill is None else tail_fill
        )

    def over(self, padded: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """A view [N, C, *out, *kernel] of the padded input, without a copy."""
        rank = len(self.kernel)
        view = np.lib.stride_tricks.sliding_window_view(padded, self.extent, axis=tuple(range(2, 2 + rank)))
        steps = [slice(None, None, step) for step in (*self.stride, *self.dilation)]
        return view[(slice(None), slice(None), *steps)]
