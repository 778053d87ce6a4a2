"""Compressed constants of iOS 16 and 18, read from the weight file, against what coremltools decompresses them to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxc.backends.coreml.blob import unpacked
from fxc.backends.coreml.run import load
from tests.backends.coreml.made import Array, mil_target, save_program

pytest.importorskip("coremltools")

_chance = np.random.default_rng(1)
DATA = _chance.integers(-128, 128, (8, 6)).astype(np.int8)
SCALE = _chance.uniform(0.1, 1, 8).astype(np.float32)
ZERO = _chance.integers(-3, 4, 8).astype(np.int8)
MASK = _chance.random((8, 12)) < 0.4


def small(name: str, array: Array) -> Array:
    """An array of one of coremltools' types below a byte."""
    from coremltools.converters.mil.mil import types

    return array.astype(types.nptype_from_builtin(types.string_to_builtin(name)))


def packed(codes: Array, bits: int) -> Array:
    flat = np.unpackbits(codes.astype(np.uint8).reshape(-1, 1), axis=1, bitorder="little")[:, :bits].flatten()
    return np.packbits(flat, bitorder="little")


def codes(top: int, *shape: int) -> Array:
    found = _chance.integers(0, top, shape)
    found.flat[0] = top - 1
    return found


def values(*shape: int) -> Array:
    return _chance.uniform(-1, 1, shape).astype(np.float32)


BUILDS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "affine, per channel": (16, lambda mb: mb.constexpr_affine_dequantize(quantized_data=DATA, zero_point=ZERO, scale=SCALE, axis=np.int32(0))),
    "affine, per tensor": (16, lambda mb: mb.constexpr_affine_dequantize(quantized_data=DATA.view(np.uint8), zero_point=np.uint8(128), scale=np.float32(0.5), axis=np.int32(1))),
    "affine, other axis": (16, lambda mb: mb.constexpr_affine_dequantize(quantized_data=DATA, zero_point=ZERO[:6], scale=SCALE[:6], axis=np.int32(-1))),
    "cast": (16, lambda mb: mb.constexpr_cast(source_val=values(4, 5).astype(np.float16), output_dtype="fp32")),
    **{
        f"table of {2**bits}": (16, lambda mb, bits=bits: mb.constexpr_lut_to_dense(indices=packed(codes(2**bits, 7, 5), bits), lut=values(2**bits), shape=np.array([7, 5], np.uint32)))
        for bits in (1, 2, 4, 6, 8)
    },
    "sparse": (16, lambda mb: mb.constexpr_sparse_to_dense(nonzero_data=values(int(MASK.sum())), mask=np.packbits(MASK.flatten(), bitorder="little"), shape=np.array([8, 12], np.uint32))),
    "blocks of int8": (18, lambda mb: mb.constexpr_blockwise_shift_scale(data=DATA, scale=values(4, 2), offset=_chance.integers(-3, 4, (4, 2)).astype(np.int8))),
    "blocks of int4": (18, lambda mb: mb.constexpr_blockwise_shift_scale(data=small("int4", _chance.integers(-8, 8, (8, 6))), scale=values(8, 3))),
    "blocks of uint4": (18, lambda mb: mb.constexpr_blockwise_shift_scale(data=small("uint4", codes(16, 8, 6)), scale=values(2, 6), offset=small("uint4", codes(16, 2, 6)))),
    **{
        f"grouped table of {2**bits}": (18, lambda mb, bits=bits: mb.constexpr_lut_to_dense(indices=small(f"uint{bits}", codes(2**bits, 6, 10)), lut=values(3, 1, 2**bits, 1)))
        for bits in (1, 2, 3, 4, 6, 8)
    },
    **{
        f"table of vectors along {axis}": (18, lambda mb, axis=axis: mb.constexpr_lut_to_dense(indices=small("uint2", codes(4, 4, 6)), lut=values(2, 1, 4, 3), vector_axis=np.int32(axis)))
        for axis in (0, 1)
    },
    "sparse, bits": (18, lambda mb: mb.constexpr_sparse_to_dense(nonzero_data=values(int(MASK.sum())), mask=small("uint1", MASK))),
    "sparse of a table": (18, lambda mb: sparse_of(mb, mb.constexpr_lut_to_sparse(indices_mask=small("uint1", MASK), indices_nonzero_data=small("uint4", codes(16, int(MASK.sum()))), lut=values(1, 1, 16, 1)))),
    "sparse of a table of vectors": (18, lambda mb: sparse_of(mb, mb.constexpr_lut_to_sparse(indices_mask=small("uint1", MASK), indices_nonzero_data=small("uint2", codes(4, int(MASK.sum()))), lut=values(1, 1, 4, 2), vector_axis=np.int32(1)))),
    "sparse of blocks": (18, lambda mb: sparse_of(mb, mb.constexpr_sparse_blockwise_shift_scale(data_mask=small("uint1", MASK), nonzero_data=_chance.integers(-9, 9, int(MASK.sum())).astype(np.int8), scale=values(8, 1), offset=_chance.integers(-3, 4, (8, 1)).astype(np.int8)))),
}  # fmt: skip


def sparse_of(mb: Any, pair: Any) -> Any:
    mask, data = pair
    return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=mask)


@pytest.mark.parametrize("name", BUILDS)
def test_constant(name: str, tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb

    ios, build = BUILDS[name]
    want: list[Array] = []

    def body(x: Any) -> Any:
        weight = build(mb)
        want.append(np.asarray(weight.op.materialized_val_inference()))
        return mb.add(x=x, y=weight)

    specs = [mb.TensorSpec(shape=(1, 1))]
    program = mb.program(input_specs=specs, opset_version=mil_target(ios))(body)
    runner = load(save_program(program, tmp_path / "m.mlpackage", ios))
    (answer,) = runner([np.zeros((1, 1), np.float32)])
    assert any(kind.startswith("constexpr") for kind, _ in runner.plan.operators)
    np.testing.assert_allclose(answer, want[0], rtol=1e-6, atol=1e-7)


def test_bits_are_read_from_the_lowest_up() -> None:
    assert unpacked(np.array([0b01101100, 0b11], np.uint8), 2, 5).tolist() == [0, 3, 2, 1, 3]
    assert unpacked(np.array([0xF8], np.uint8), 4, 2, signed=True).tolist() == [-8, -1]
    # Three bits: the third number lies across two bytes.
    assert unpacked(np.array([0b10_011_101, 0b1], np.uint8), 3, 3).tolist() == [5, 3, 6]
