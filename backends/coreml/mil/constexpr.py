"""MIL's compressed constants: they are decoded once, when a model is loaded.

iOS 16 has packed bytes and one table or scale vector; iOS 18 has sub-byte types, blocks, groups and vectors. Two operators
share their name over both: the arguments tell which is meant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fxc.backends.coreml.blob import unpacked
from fxc.backends.coreml.mil.operator import Ints
from fxc.backends.coreml.mil.quantize import along


def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """``scale (quantized_data - zero_point)``; vectors lie along ``axis``."""
    return (quantized_data.float() - along(zero_point, quantized_data, axis)) * along(
        scale, quantized_data, axis
    )


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """``scale (data - offset)``; each scale and offset holds for a block of ``data``."""
    codes = data.float()
    if offset is not None:
        codes = codes - spread(offset.float(), data.shape)
    return codes * spread(scale, data.shape)


def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """A constant in another float type."""
    return source_val.float()


def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None
) -> Tensor:
    """Entries of a table: packed indices into one table (with ``shape``), or indices into one for each block."""
    if shape is None:
        return _looked_up(indices, lut, vector_axis)
    bits = int(math.log2(lut.numel()))
    count = math.prod(shape)
    flat = torch.from_numpy(unpacked(indices.numpy(), bits, count))
    return lut[flat.long()].reshape(shape)


def _looked_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """``lut`` is [groups along each dimension, entries, vector]; a vector's elements follow each other along an axis."""
    entries, vector = lut.shape[-2:]
    tables = lut.reshape(-1, entries, vector)
    numbers = torch.arange(len(tables)).reshape(lut.shape[:-2])
    found = tables[spread(numbers, indices.shape), indices.long()]
    if vector == 1:
        return found.squeeze(-1)
    axis = (vector_axis or 0) % indices.dim()
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """Zeros, and ``nonzero_data`` in order where ``mask`` is set: packed bits (with ``shape``), or one per element."""
    if shape is None:
        return _dense(nonzero_data, mask.bool())
    bits = torch.from_numpy(unpacked(mask.numpy(), 1, math.prod(shape)))
    return _dense(nonzero_data, bits.bool().reshape(shape))


def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and the entries of a table where it is set."""
    dense = _looked_up(_dense(indices_nonzero_data, indices_mask.bool()), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis or 0)
    return mask, dense[mask.bool()]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and ``scale (data - offset)`` where it is set."""
    dense = constexpr_blockwise_shift_scale(_dense(nonzero_data, data_mask.bool()), scale, offset)
    return data_mask, dense[data_mask.bool()]


def _dense(values: Tensor, mask: Tensor) -> Tensor:
    result = torch.zeros(mask.shape, dtype=values.dtype)
    result[mask] = values
    return result


def spread(values: Tensor, shape: torch.Size) -> Tensor:
    """Each value over its block of a tensor of ``shape``."""
    for axis, (want, have) in enumerate(zip(shape, values.shape)):
        if want != have:
            values = values.repeat_interleave(want // have, axis)
    return values


OPERATORS = (
    constexpr_affine_dequantize,
    constexpr_blockwise_shift_scale,
    constexpr_cast,
    constexpr_lut_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_blockwise_shift_scale,
    constexpr_sparse_to_dense,
)
