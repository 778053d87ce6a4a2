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

OPEN = {
    # With a scale of 6/255 in front, every value of a hard sigmoid lies half-way between two codes.
    "ties_in_every_place": Spec(
        (Input((3, 11, 11)),),
        (
            Step(4, "add", (0, 0)),
            Step(5, "pad_zero", (1,), {"padding": (0, 0, 2, 1)}),
            Step(6, "conv2d", (2,), {"in_channels": 3, "out_channels": 6, "groups": 3, "kernel_size": (3, 3), "padding": (1, 1), "dilation": (2, 2)}),
            Step(7, "hardsigmoid", (3,)),
            Step(8, "conv2d", (4,), {"in_channels": 6, "out_channels": 4, "kernel_size": (2, 2), "stride": (2, 2), "padding": (1, 1), "bias": False}),
        ),
        (5,),
        seed=4779,
    ),
    # Codes may lie exactly at a step, though no value of the float model does.
    "ceil_of_what_was_quantized": Spec(
        (Input((9, 4), "positive"), Input((6, 6, 6))),
        (
            Step(3, "conv2d", (1,), {"in_channels": 6, "out_channels": 5, "kernel_size": (1, 1)}),
            Step(4, "standardized", (2,)),
            Step(5, "ceil", (3,)),
            Step(6, "mean", (4,), {"dim": (3,), "keepdim": True}),
        ),
        (5, 0),
        batch=1,
        seed=1261,
    ),
    # The mean of what was normalized to a mean of zero is float noise, coded with a scale of its size.
    "mean_of_what_was_normalized": Spec(
        (Input((3, 9, 9)),),
        (
            Step(4, "layer_norm", (0,), {"normalized_shape": (9, 9), "elementwise_affine": False, "bias": False}),
            Step(5, "squeeze_excite", (1,), {"width": 3, "hard": False, "flat": False}),
            Step(6, "conv_norm_act", (2,), {"width": 3, "out": 4, "kernel": 1, "act": "gelu", "before": False, "pad": True}),
        ),
        (3,),
        seed=6408,
    ),
    # No decibels of a signal that is zero in one row.
    "row_that_vanishes": Spec(
        (Input((6, 7, 7)),),
        (
            Step(0, "linear", (0,), {"in_features": 7, "out_features": 7, "bias": True}),
            Step(1, "conv_norm_act", (1,), {"width": 6, "out": 6, "kernel": 1, "act": "none", "before": True, "pad": True}),
            Step(3, "conv2d", (2,), {"in_channels": 6, "out_channels": 6, "groups": 6, "kernel_size": (1, 1), "bias": False}),
            Step(4, "conv_transpose2d", (3,), {"in_channels": 6, "out_channels": 2, "kernel_size": (3, 3), "padding": (1, 1)}),
            Step(5, "conv2d", (4,), {"in_channels": 2, "out_channels": 2, "groups": 2, "kernel_size": (1, 1), "padding": "same"}),
            Step(6, "adaptive_avg_pool2d", (5,), {"output_size": (2, 1)}),
            Step(7, "split", (6,), {"dim": 1, "sizes": (1, 1)}),
            Step(10, "conv_norm_act", (8,), {"width": 1, "out": 4, "kernel": 1, "act": "relu", "before": False, "pad": False}),
        ),
        (9,),
        batch=1,
        seed=8137,
    ),
}  # fmt: skip

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
    # ONNX Runtime takes only pads below the kernel's size.
    "dilated_max_pool_with_a_window_hanging_over": Spec(
        (Input((6, 10, 10), "positive"),),
        (
            Step(0, "max_pool2d", (0,), {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True, "dilation": 2}),
            Step(1, "conv2d", (1,), {"in_channels": 6, "out_channels": 4, "kernel_size": (1, 1)}),
        ),
        (2,),
        seed=1674,
    ),
    # ONNX Runtime merges a Transpose into the product behind it, and takes the wrong axis for a vector.
    "vector_behind_a_transpose": Spec(
        (Input((4, 2, 3)),), (Step(0, "matrix_transpose", (0,)), Step(1, "matmul_vector", (1,))), (2,), seed=8229
    ),
    # A convolution and a linear layer want different codes of one tensor, and both had one label.
    "two_codes_of_one_tensor": Spec(
        (Input((3, 6, 6)),),
        (
            Step(0, "add", (0, 0)),
            Step(1, "conv2d", (1,), {"in_channels": 3, "out_channels": 6, "groups": 3, "kernel_size": (1, 1), "stride": (3, 3)}),
            Step(2, "linear", (1,), {"in_features": 6, "out_features": 6}),
        ),
        (3, 2),
        seed=5173,
    ),
    # ONNX Runtime moved the quantization of a transposed tensor in front of the Transpose, and of the output.
    "float_output_whose_transpose_is_quantized": Spec(
        (Input((5, 3, 2)),),
        (
            Step(0, "conv_transpose2d", (0,), {"in_channels": 5, "out_channels": 5, "groups": 5, "kernel_size": (1, 1), "stride": (2, 2)}),
            Step(1, "transpose", (1,), {"a": 2, "b": -1}),
            Step(2, "conv2d", (2,), {"in_channels": 5, "out_channels": 4, "kernel_size": (1, 2)}),
        ),
        (3, 1),
        seed=4309,
    ),
    # ONNX Runtime's integer softmax scales by floor(1 / scale), which was 254.
    "softmax_between_integers": Spec(
        (Input((4, 6, 5)),),
        (
            Step(0, "conv_norm_act", (0,), {"width": 4, "out": 6, "kernel": 3, "act": "relu", "before": True, "pad": True}),
            Step(1, "softmax", (1,), {"dim": -3}),
            Step(2, "two_norms", (2,), {"width": 6, "how": "chain"}),
        ),
        (3,),
        seed=9569,
    ),
    # The module writes into its input; the program does not.
    "input_overwritten_after_it_was_read": Spec(
        (Input((8, 7, 9)),),
        (Step(0, "sigmoid", (0,)), Step(1, "relu_module", (0,), {"inplace": True})),
        (2, 1),
        seed=6100,
    ),
    **OPEN,
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
