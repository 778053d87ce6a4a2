"""Layers of the corpus: convolutions, pools, normalizations, products and resizing."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conformance.case import Case, case, image, of_image


def convolutions() -> dict[str, Case]:
    line, volume = torch.randn(2, 4, 9), torch.randn(2, 2, 5, 6, 4)
    cases = of_image(
        ("conv2d", nn.Conv2d(4, 6, 3)),
        ("conv2d_no_bias", nn.Conv2d(4, 6, 3, bias=False)),
        ("conv2d_stride_padding", nn.Conv2d(4, 6, 3, stride=2, padding=1)),
        ("conv2d_uneven", nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 2))),
        ("conv2d_dilation", nn.Conv2d(4, 6, 3, dilation=2, padding=2)),
        ("conv2d_groups", nn.Conv2d(4, 6, 3, groups=2)),
        ("conv2d_depthwise", nn.Conv2d(4, 4, 3, groups=4, padding=1)),
        ("conv2d_pointwise", nn.Conv2d(4, 8, 1)),
        ("conv2d_same", nn.Conv2d(4, 6, (3, 4), padding="same")),
        ("conv2d_reflect", nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")),
        ("conv_transpose2d", nn.ConvTranspose2d(4, 6, 3)),
        ("conv_transpose2d_stride", nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)),
        ("conv_transpose2d_groups", nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False)),
        ("conv_transpose2d_dilation", nn.ConvTranspose2d(4, 4, 3, dilation=2)),
    )
    cases["conv1d"] = case(nn.Conv1d(4, 6, 3, padding=1), line)
    cases["conv3d"] = case(nn.Conv3d(2, 3, 3, padding=1), volume)
    cases["conv_transpose1d"] = case(nn.ConvTranspose1d(4, 6, 3, stride=2), line)
    cases["conv_transpose3d"] = case(nn.ConvTranspose3d(2, 3, 2, stride=2), volume)
    cases["conv2d_two_inputs"] = case(
        lambda x, w: F.conv2d(x, w), image(), torch.randn(2, 4, 3, 3), batched=False
    )
    return cases


def pools() -> dict[str, Case]:
    line, volume = torch.randn(2, 4, 9), torch.randn(2, 2, 5, 6, 4)
    cases = of_image(
        ("max_pool2d", nn.MaxPool2d(2)),
        ("max_pool2d_overlap", nn.MaxPool2d(3, 2, 1)),
        ("max_pool2d_ceil", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ("max_pool2d_ceil_pad", nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        ("max_pool2d_dilation", nn.MaxPool2d((3, 2), 1, dilation=2)),
        ("max_pool2d_dilation_ceil", nn.MaxPool2d(2, 2, 1, dilation=2, ceil_mode=True)),
        ("avg_pool2d", nn.AvgPool2d(2)),
        ("avg_pool2d_pad", nn.AvgPool2d(3, 2, 1)),
        ("avg_pool2d_no_pad_count", nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        ("avg_pool2d_ceil", nn.AvgPool2d(3, 2, ceil_mode=True)),
        ("avg_pool2d_ceil_pad", nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        ("avg_pool2d_ceil_no_pad_count", nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
        ("avg_pool2d_divisor", nn.AvgPool2d(3, 2, 1, divisor_override=5)),
        ("global_avg_pool2d", nn.AdaptiveAvgPool2d(1)),
        ("adaptive_avg_pool2d_even", nn.AdaptiveAvgPool2d((4, 7))),
        ("adaptive_avg_pool2d_uneven", nn.AdaptiveAvgPool2d((3, 5))),
        ("adaptive_avg_pool2d_larger", nn.AdaptiveAvgPool2d((11, 9))),
        ("global_max_pool2d", nn.AdaptiveMaxPool2d(1)),
        ("adaptive_max_pool2d", nn.AdaptiveMaxPool2d((4, 1))),
        ("lp_pool2d", nn.LPPool2d(2, 2)),
    )
    cases["max_pool1d"] = case(nn.MaxPool1d(3, 2), line)
    cases["avg_pool1d"] = case(nn.AvgPool1d(3, 2, 1), line)
    cases["max_pool3d"] = case(nn.MaxPool3d(2), volume)
    cases["avg_pool3d"] = case(nn.AvgPool3d(2), volume)
    cases["adaptive_avg_pool1d"] = case(nn.AdaptiveAvgPool1d(3), line)
    return cases


def norms() -> dict[str, Case]:
    rows = torch.randn(2, 5, 8)
    cases = of_image(
        ("batch_norm2d", _measured(nn.BatchNorm2d(4))),
        ("batch_norm2d_plain", _measured(nn.BatchNorm2d(4, affine=False))),
        ("group_norm", _affine(nn.GroupNorm(2, 4))),
        ("group_norm_plain", nn.GroupNorm(4, 4, affine=False)),
        ("instance_norm", _affine(nn.InstanceNorm2d(4, affine=True))),
        ("instance_norm_plain", nn.InstanceNorm2d(4)),
        ("layer_norm_image", _affine(nn.LayerNorm([4, 8, 7]))),
        ("local_response_norm", nn.LocalResponseNorm(3)),
    )
    cases["batch_norm1d"] = case(_measured(nn.BatchNorm1d(8)), torch.randn(2, 8))
    cases["layer_norm"] = case(_affine(nn.LayerNorm(8)), rows)
    cases["layer_norm_plain"] = case(nn.LayerNorm(8, elementwise_affine=False), rows)
    cases["layer_norm_no_bias"] = case(_affine(nn.LayerNorm(8, bias=False)), rows)
    cases["rms_norm"] = case(_affine(nn.RMSNorm(8)), rows)
    return cases


def _affine(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def _measured(module: nn.Module) -> nn.Module:
    """A batch norm with statistics that are not the trivial ones."""
    module.running_mean, module.running_var = (
        torch.randn(module.num_features),
        torch.rand(module.num_features) + 0.5,
    )
    return _affine(module)


def products() -> dict[str, Case]:
    rows, heads = torch.randn(2, 5, 8), torch.randn(2, 2, 5, 4)
    bias = torch.randn(5, 5)
    lets_through = torch.rand(5, 5) > 0.3
    lets_through[:, 0] = True
    return {
        "linear": case(nn.Linear(8, 6), torch.randn(2, 8)),
        "linear_no_bias": case(nn.Linear(8, 6, bias=False), torch.randn(2, 8)),
        "linear_rank3": case(nn.Linear(8, 6), rows),
        "linear_rank3_no_bias": case(nn.Linear(8, 6, bias=False), rows),
        "linear_rank4": case(nn.Linear(7, 6)),
        "linear_shared": case(_SharedLinear(), torch.randn(2, 8)),
        "matmul": case(lambda a, b: a @ b, rows, torch.randn(2, 8, 3)),
        "matmul_broadcast": case(lambda a: a @ torch.ones(8, 3), rows),
        "matmul_vector": case(lambda a: a @ torch.arange(8.0), rows),
        "matmul_vector_transposed": case(lambda a: a.mT @ torch.arange(5.0), rows),
        "bmm": case(lambda a: torch.bmm(a, a.transpose(1, 2)), rows),
        "baddbmm": case(lambda a: torch.baddbmm(bias, a, a.transpose(1, 2), beta=0.5, alpha=2), rows),
        "addmm": case(
            lambda a: torch.addmm(torch.ones(3), a, torch.ones(8, 3), beta=0.5, alpha=2), torch.randn(2, 8)
        ),
        "einsum": case(lambda a: torch.einsum("bik,bjk->bij", a, a), rows),
        "bilinear": case(nn.Bilinear(8, 8, 3), torch.randn(2, 8), torch.randn(2, 8)),
        "attention": case(F.scaled_dot_product_attention, heads, heads * 0.5, heads + 1),
        "attention_causal": case(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), heads),
        "attention_bias": case(lambda q: F.scaled_dot_product_attention(q, q, q, bias), heads),
        "attention_mask": case(
            lambda q: F.scaled_dot_product_attention(q, q, q, lets_through, scale=0.3), heads
        ),
        "multihead": case(_SelfAttention(), rows),
        "transformer_layer": case(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), rows),
    }


class _SharedLinear(nn.Module):
    """One weight read by a rank 2 and by a rank 3 product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)[:, None])


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def resizing() -> dict[str, Case]:
    def by(**options: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: F.interpolate(x, **options)

    cases = of_image(
        ("nearest", by(scale_factor=2)),
        ("nearest_size", by(size=(5, 11))),
        ("nearest_fraction", by(scale_factor=1.6)),
        ("nearest_exact", by(size=(12, 5), mode="nearest-exact")),
        ("bilinear", by(scale_factor=2, mode="bilinear")),
        ("bilinear_size", by(size=(5, 11), mode="bilinear")),
        ("bilinear_aligned", by(size=(5, 11), mode="bilinear", align_corners=True)),
        ("bilinear_one", by(size=(1, 3), mode="bilinear")),
        ("bilinear_as_input", lambda x: F.interpolate(F.avg_pool2d(x, 2), x.shape[-2:], mode="bilinear")),
        ("bicubic", by(scale_factor=2, mode="bicubic")),
        ("bicubic_aligned", by(size=(12, 11), mode="bicubic", align_corners=True)),
    )
    cases["linear1d"] = case(by(scale_factor=2, mode="linear"), torch.randn(2, 3, 6))
    cases["nearest1d"] = case(by(scale_factor=3), torch.randn(2, 3, 6))
    cases["trilinear"] = case(by(scale_factor=2, mode="trilinear"), torch.randn(2, 2, 3, 4, 3))
    grid = torch.rand(2, 5, 6, 2) * 2.4 - 1.2
    cases["grid_sample"] = case(
        lambda x, g: F.grid_sample(x, g, align_corners=False), image(), grid, since=16
    )
    cases["grid_sample_border"] = case(
        lambda x, g: F.grid_sample(x, g, "nearest", "border", align_corners=True), image(), grid, since=16
    )
    return cases
