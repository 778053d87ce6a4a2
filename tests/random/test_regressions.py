"""What random models found, as the smallest models that show it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.random.check import RuntimeFault, check
from tests.random.spec import Input, Spec, Step

BEHIND_A_NORM = (
    Step(0, "batch_norm2d", (0,), {"num_features": 3, "affine": True}),
    Step(1, "conv2d", (1,), {"in_channels": 8, "out_channels": 8, "kernel_size": (1, 1)}),
)  # fmt: skip

CASES = {
    # Canonical arguments took tile's counts for dimensions: tile(2) of a matrix became tile(0).
    "tile_counts_are_not_dimensions": Spec(
        (Input((6,)),), (Step(0, "tile", (0,)),), (1,), seed=3107
    ),
    # GatherElements does not broadcast its index.
    "take_along_dim_broadcasts": Spec(
        (Input((3, 10, 7)),), (Step(0, "take_along_dim", (0,), {"dim": 3}),), (1,), seed=4263
    ),
    # ONNX Runtime merges a Pad with zeros into a max pool, whose own pads are no zeros.
    "zeros_padded_before_a_max_pool": Spec(
        (Input((3, 9, 6)),),
        (
            Step(0, "pad", (0,), {"pad": (1, 1, 1, 1), "value": 0.0}),
            Step(1, "max_pool2d", (1,), {"kernel_size": 3, "stride": 2, "padding": 0, "ceil_mode": False, "dilation": 1}),
        ),
        (2,),
        seed=8182,
    ),
    # The same, refused at loading where the pad is as wide as the window.
    "wide_zeros_padded_before_a_max_pool": Spec(
        (Input((3, 9, 6)),),
        (
            Step(0, "pad_zero", (0,), {"padding": (2, 1, 0, 0)}),
            Step(1, "max_pool2d", (1,), {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "dilation": 2}),
        ),
        (2,),
        seed=8182,
    ),
    # OpenVINO's int8 passes take a scale per channel for a dequantization and moved it wrongly behind a Gather with a
    # table of indices.
    "im2col_behind_a_norm_in_an_int8_model": Spec(
        (Input((3, 10, 11)), Input((8, 5, 5))),
        (*BEHIND_A_NORM, Step(2, "im2col", (2,), {"kernel": 3, "stride": 1, "padding": 0})),
        (4, 3),
        seed=3277,
    ),
    "unfold_behind_a_norm_in_an_int8_model": Spec(
        (Input((3, 10, 11)), Input((8, 5, 5))),
        (*BEHIND_A_NORM, Step(2, "unfold", (2,), {"dim": 3, "size": 2, "step": 2})),
        (4, 3),
        seed=3277,
    ),
    # OpenVINO joins these to one kernel that answers with memory's own contents, unless the first has a bias.
    "int8_linear_without_bias_before_another": Spec(
        (Input((8,)),),
        (
            Step(0, "linear_rows", (0,), {"in_features": 8, "out_features": 3, "bias": False}),
            Step(1, "relu", (1,)),
            Step(2, "linear_rows", (2,), {"in_features": 3, "out_features": 4, "bias": False}),
        ),
        (3,),
        seed=8568,
    ),
    # Refused until random models asked for it.
    "average_with_its_own_divisor_and_a_window_hanging_over": Spec(
        (Input((6, 7, 8)),),
        (Step(0, "avg_pool2d", (0,), {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False, "divisor_override": 5}),),
        (1,),
        seed=3068,
    ),
}  # fmt: skip

FAULTS = {
    # With as many heads as tokens OpenVINO 2026.4 mixes the two up when it fuses attention; the generator leaves it out.
    "attention_with_as_many_heads_as_tokens": Spec(
        (Input((2, 6)),),
        (Step(2, "attention", (0,), {"width": 6, "heads": 2, "how": "by hand", "hidden": False}),),
        (1,),
        seed=1851,
    ),
    # A grouped integer convolution with an output one column wide and a column left over is wrong in oneDNN.
    "grouped_int8_convolution_one_column_wide": Spec(
        (Input((8, 8, 6)),),
        (Step(7, "conv2d", (0,), {"in_channels": 8, "out_channels": 16, "groups": 8, "kernel_size": (3, 5), "stride": (1, 2), "padding": (1, 0), "dilation": (1, 1), "bias": False}),),
        (1,),
        seed=8842,
    ),
    # Scales per column, of a linear layer over an image's rows, stop OpenVINO's int8 passes at a pool.
    "int8_linear_over_columns_before_a_pool": Spec(
        (Input((3, 7, 8), "positive"),),
        (
            Step(0, "linear", (0,), {"in_features": 8, "out_features": 4, "bias": False}),
            Step(1, "max_pool2d", (1,), {"kernel_size": 2, "stride": 1, "padding": 1, "ceil_mode": False, "dilation": 1}),
        ),
        (2,),
        seed=5187,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fixed(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("name", FAULTS)
def test_the_file_is_right_though_openvino_is_not(name: str) -> None:
    """ONNX Runtime computes the file as it should; another OpenVINO, or another processor, may do so too."""
    with suppress(RuntimeFault):
        check(FAULTS[name])


def test_take_along_dim_with_a_fixed_batch() -> None:
    spec = Spec((Input((3, 10, 7)),), (Step(0, "take_along_dim", (0,), {"dim": 2}),), (1,), dynamic=False)
    check(spec)
