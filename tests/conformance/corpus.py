"""One corpus of small operator cases that every backend runs: a name, a module, and its inputs with batch 2."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fn(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@dataclass(frozen=True)
class Case:
    """A module in eval mode and example inputs; the leading axis of every input is a batch of 2.

    Attributes:
        since: lowest ONNX opset that has the operator.
        batched: whether the function makes sense for another batch size.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    since: int = 13
    batched: bool = True


def _image(channels: int = 4, height: int = 8, width: int = 7) -> Tensor:
    return torch.randn(2, channels, height, width)


def _case(
    what: nn.Module | Callable[..., Any], *inputs: Tensor, since: int = 13, batched: bool = True
) -> Case:
    module = what if isinstance(what, nn.Module) else Fn(what)
    return Case(module.eval(), inputs or (_image(),), since, batched)


def _of_image(*functions: tuple[str, nn.Module | Callable[..., Any]]) -> dict[str, Case]:
    return {name: _case(function) for name, function in functions}


def convolutions() -> dict[str, Case]:
    line, volume = torch.randn(2, 4, 9), torch.randn(2, 2, 5, 6, 4)
    cases = _of_image(
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
    cases["conv1d"] = _case(nn.Conv1d(4, 6, 3, padding=1), line)
    cases["conv3d"] = _case(nn.Conv3d(2, 3, 3, padding=1), volume)
    cases["conv_transpose1d"] = _case(nn.ConvTranspose1d(4, 6, 3, stride=2), line)
    cases["conv_transpose3d"] = _case(nn.ConvTranspose3d(2, 3, 2, stride=2), volume)
    cases["conv2d_two_inputs"] = _case(
        lambda x, w: F.conv2d(x, w), _image(), torch.randn(2, 4, 3, 3), batched=False
    )
    return cases


def activations() -> dict[str, Case]:
    modules = (
        nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.LeakyReLU(0.2),
        nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.Hardsigmoid(), nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.Softplus(),
        nn.GELU(), nn.GLU(1), nn.Threshold(0.1, -2.0), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.Softsign(),
        nn.RReLU(), nn.Softmin(1),
    )  # fmt: skip
    cases = {type(m).__name__.lower(): _case(m, 3 * _image()) for m in modules}
    cases["prelu"] = _case(_prelu(4))
    cases["prelu_one"] = _case(_prelu(1))
    cases["gelu_tanh"] = _case(nn.GELU("tanh"))
    cases["softplus_beta"] = _case(nn.Softplus(2.0))
    cases["softmax_channel"] = _case(nn.Softmax(1))
    cases["softmax_last"] = _case(nn.Softmax(-1))
    cases["softmax_dtype"] = _case(lambda x: F.softmax(x.int(), 1, dtype=torch.float32))
    cases["log_softmax"] = _case(nn.LogSoftmax(1))
    return cases


def _prelu(count: int) -> nn.Module:
    module = nn.PReLU(count)
    with torch.no_grad():
        module.weight.copy_(torch.rand(count))
    return module


def elementwise() -> dict[str, Case]:
    column = torch.rand(4, 1, 1) + 0.5
    return _of_image(
        ("add_scalar", lambda x: x + 1.5),
        ("add_broadcast", lambda x: x + column),
        ("add_alpha", lambda x: torch.add(x, x * x, alpha=0.25)),
        ("radd", lambda x: 2 + x),
        ("sub", lambda x: x - column),
        ("rsub", lambda x: 3 - x),
        ("rsub_alpha", lambda x: torch.rsub(x, 2.0, alpha=0.5)),
        ("mul", lambda x: x * column),
        ("div", lambda x: x / column),
        ("div_floor", lambda x: torch.div(x, column, rounding_mode="floor")),
        ("div_trunc", lambda x: torch.div(x, 0.3, rounding_mode="trunc")),
        ("floor_divide", lambda x: x // 0.7),
        ("remainder", lambda x: x % 0.7),
        ("fmod", lambda x: torch.fmod(x, column)),
        ("integer_division", lambda x: ((x * 10).int() // 3, (x * 10).int() % 3, (x * 10).long() / 4)),
        ("mixed_dtypes", lambda x: x + (x * 10).int()),
        ("maximum", lambda x: torch.maximum(x, column) + torch.minimum(x, column)),
        ("pow", lambda x: (x**2, x**3, x.abs() ** 0.5, x.abs() ** 1.7, 2**x)),
        ("pow_tensor", lambda x: torch.pow(x.abs() + 0.1, column)),
        ("square", torch.square),
        (
            "roots",
            lambda x: (torch.sqrt(x.abs()), torch.rsqrt(x.abs() + 0.1), torch.reciprocal(x.abs() + 0.1)),
        ),
        ("exponentials", lambda x: (torch.exp(x), torch.exp2(x), torch.expm1(x))),
        (
            "logarithms",
            lambda x: [f(x.abs() + 0.5) for f in (torch.log, torch.log2, torch.log10, torch.log1p)],
        ),
        ("trigonometry", lambda x: (torch.sin(x), torch.cos(x), torch.tan(x))),
        ("inverse_trigonometry", lambda x: [f(x / 8) for f in (torch.asin, torch.acos, torch.atan)]),
        ("hyperbolic", lambda x: (torch.sinh(x), torch.cosh(x), torch.asinh(x), torch.atanh(x / 8))),
        ("atan2", lambda x: torch.atan2(x, x.flip(3) + 0.01)),
        ("erf", torch.erf),
        (
            "rounding",
            lambda x: [f(3 * x) for f in (torch.floor, torch.ceil, torch.round, torch.trunc, torch.sign)],
        ),
        ("abs_neg", lambda x: x.abs() - (-x)),
        ("clamp", lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.1))),
        ("clamp_tensor", lambda x: torch.clamp(x, -column, column)),
        ("comparisons", lambda x: (x > 0, x >= 0.1, x < 0, x <= 0.1, x == 0, x != 0)),
        ("comparisons_tensor", lambda x: (x > column, x.ne(column), (x * 4).int() > 1.5)),
        ("logic", lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), ~(x > 0), (x > 0) ^ (x > 1))),
        (
            "logical",
            lambda x: (torch.logical_and(x, x > 1), torch.logical_or(x, x > 1), torch.logical_not(x > 1)),
        ),
        ("where", lambda x: torch.where(x > 0, x, -0.1 * x)),
        ("where_scalar", lambda x: torch.where(x > 0, 1.0, 0.0)),
        ("masked_fill", lambda x: x.masked_fill(x < 0, -7.0)),
        ("cast", lambda x: (x.int(), x.long().float(), x > 0, (x > 0).float())),
        ("lerp", lambda x: torch.lerp(x, x * x, 0.3)),
        ("addcmul", lambda x: torch.addcmul(x, x, column, value=0.5)),
        ("addcdiv", lambda x: torch.addcdiv(x, x, column, value=0.5)),
        ("in_place", lambda x: (x * 1).add_(2).mul_(3).relu_()),
        ("isnan_isinf", lambda x: (torch.isnan(x.log()), torch.isinf(x / 0))),
        ("dropout", nn.Dropout(0.5)),
    )


def pools() -> dict[str, Case]:
    line, volume = torch.randn(2, 4, 9), torch.randn(2, 2, 5, 6, 4)
    cases = _of_image(
        ("max_pool2d", nn.MaxPool2d(2)),
        ("max_pool2d_overlap", nn.MaxPool2d(3, 2, 1)),
        ("max_pool2d_ceil", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ("max_pool2d_ceil_pad", nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        ("max_pool2d_dilation", nn.MaxPool2d((3, 2), 1, dilation=2)),
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
    cases["max_pool1d"] = _case(nn.MaxPool1d(3, 2), line)
    cases["avg_pool1d"] = _case(nn.AvgPool1d(3, 2, 1), line)
    cases["max_pool3d"] = _case(nn.MaxPool3d(2), volume)
    cases["avg_pool3d"] = _case(nn.AvgPool3d(2), volume)
    cases["adaptive_avg_pool1d"] = _case(nn.AdaptiveAvgPool1d(3), line)
    return cases


def shapes() -> dict[str, Case]:
    return _of_image(
        ("reshape", lambda x: x.reshape(x.shape[0], 2, -1)),
        ("view_batch_times_heads", lambda x: x.view(x.shape[0] * 4, 8, 7)),
        ("view_batch_split", lambda x: x.view(-1, 8, 7).view(x.shape[0], 4, 56)),
        ("flatten", lambda x: x.flatten(1)),
        ("flatten_middle", lambda x: x.flatten(1, 2)),
        ("flatten_end", lambda x: x.flatten(2)),
        ("unflatten", lambda x: x.unflatten(1, (2, 2))),
        ("permute", lambda x: x.permute(0, 2, 3, 1)),
        ("transpose", lambda x: x.transpose(1, -1)),
        ("movedim", lambda x: x.movedim(1, 3)),
        ("squeeze", lambda x: x[:, :1].squeeze(1)),
        ("unsqueeze", lambda x: x.unsqueeze(2).unsqueeze(-1)),
        ("expand", lambda x: x[:, :1].expand(-1, 3, -1, -1)),
        (
            "expand_batch",
            lambda x: torch.ones(1, 3).expand(x.shape[0], -1) + x.mean((1, 2, 3), keepdim=True)[..., 0, 0],
        ),
        ("expand_as", lambda x: x.mean(1, keepdim=True).expand_as(x)),
        ("repeat", lambda x: x.repeat(1, 2, 1, 3)),
        ("tile", lambda x: x.tile(2, 1)),
        ("repeat_interleave", lambda x: x.repeat_interleave(3, dim=1)),
        ("pixel_shuffle", nn.PixelShuffle(2)),
        ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x[..., :6], 2)),
        ("channel_shuffle", nn.ChannelShuffle(2)),
        (
            "channel_shuffle_by_hand",
            lambda x: x.view(-1, 2, 2, 8, 7).transpose(1, 2).contiguous().view(-1, 4, 8, 7),
        ),
        ("split", lambda x: x.split([1, 3], 1)),
        ("chunk", lambda x: x.chunk(3, 3)),
        ("unbind", lambda x: x.unbind(1)),
        ("patches", lambda x: F.unfold(x, 3, padding=1, stride=2)),
        ("patches_dilated", lambda x: F.unfold(x, (2, 3), dilation=(2, 1))),
        ("unfold", lambda x: x.unfold(2, 3, 2)),
        ("batch_size_as_number", lambda x: x * x.shape[0]),
    )


def indexing() -> dict[str, Case]:
    rows, columns = torch.tensor([0, 2, 1]), torch.tensor([3, 0, 5])
    cases = _of_image(
        ("slice", lambda x: x[:, 1:3, ::2, :-1]),
        ("slice_negative", lambda x: x[..., -3:]),
        ("select", lambda x: x[:, 1]),
        ("select_last", lambda x: x[..., -1]),
        ("narrow", lambda x: x.narrow(2, 1, 3)),
        ("index_one", lambda x: x[:, rows]),
        ("index_two", lambda x: x[:, :, rows, columns]),
        ("index_apart", lambda x: x[:, rows, :, columns]),
        ("index_broadcast", lambda x: x[:, rows[:, None], columns]),
        ("index_select", lambda x: x.index_select(2, columns)),
        ("gather", lambda x: x.gather(3, torch.zeros(2, 4, 8, 3, dtype=torch.int64))),
        ("cat", lambda x: torch.cat([x, x * 2], 1)),
        ("cat_mixed", lambda x: torch.cat([x, x.int()], -1)),
        ("stack", lambda x: torch.stack([x, -x], -1)),
        ("pad_constant", lambda x: F.pad(x, (1, 2, 0, 3), value=1.5)),
        ("pad_zero", nn.ZeroPad2d(1)),
        ("pad_negative", lambda x: F.pad(x, (-1, 2))),
        ("pad_reflect", nn.ReflectionPad2d((1, 2, 0, 1))),
        ("pad_replicate", nn.ReplicationPad2d(2)),
        ("roll", lambda x: x.roll((1, -2), (2, 3))),
        ("roll_flat", lambda x: x.roll(5)),
        ("flip", lambda x: x.flip((1, 3))),
        ("triangles", lambda x: (x.tril(), x.triu(1))),
        ("topk", lambda x: x.topk(3, -1)),
        ("sort", lambda x: x.sort(2, descending=True)),
        ("argsort", lambda x: x.argsort(-1)),
        ("one_hot", lambda x: F.one_hot((x.abs() * 2).long().clamp(max=4), 5)),
        ("arange", lambda x: x + torch.arange(7, dtype=x.dtype)),
        ("arange_batch", lambda x: torch.arange(x.shape[0])[:, None] + x[:, :, 0, 0]),
        ("full_batch", lambda x: x.new_full((x.shape[0], 2), 3.0)),
        ("like", lambda x: (torch.zeros_like(x) + x, torch.ones_like(x), torch.full_like(x, 2.0))),
        ("write_slice", _written),
        ("scatter", lambda x: x.scatter(1, torch.zeros(2, 1, 8, 7, dtype=torch.int64), 2.0)),
    )
    cases["gather"] = _case(cases["gather"].module, batched=False)
    cases["scatter"] = _case(cases["scatter"].module, batched=False)
    cases["embedding"] = _case(nn.Embedding(10, 4), torch.randint(0, 10, (2, 5)))
    cases["pad_circular"] = _case(nn.CircularPad2d(1), since=19)
    cases["take_along_dim"] = _case(lambda x: x.take_along_dim(x.argmax(1, keepdim=True), 1), batched=False)
    return cases


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 1:3] = 0.5
    y[:, 2] = x[:, 0]
    return y


def reductions() -> dict[str, Case]:
    return _of_image(
        ("mean", lambda x: (x.mean((2, 3)), x.mean(1, keepdim=True), x.mean())),
        ("mean_global", lambda x: x.mean((2, 3), keepdim=True)),
        ("sum", lambda x: (x.sum(1), x.sum((1, 2), keepdim=True), x.sum())),
        ("sum_of_bool", lambda x: (x > 0).sum(1)),
        ("prod", lambda x: x.prod(3)),
        ("amax", lambda x: (x.amax((2, 3)), x.amin(1, keepdim=True))),
        ("max_all", lambda x: (x.max(), x.min())),
        ("max_dim", lambda x: x.max(1)),
        ("min_dim_values", lambda x: x.min(2, keepdim=True).values),
        ("argmax", lambda x: (x.argmax(1), x.argmin(2, keepdim=True))),
        ("var", lambda x: (x.var(1), x.var((2, 3), unbiased=False, keepdim=True))),
        ("std", lambda x: x.std((1, 2))),
        ("var_mean", lambda x: torch.var_mean(x, 1, correction=0)),
        ("norms", lambda x: (x.norm(dim=1), x.norm(1, dim=1), torch.linalg.vector_norm(x, 3.0, dim=(2, 3)))),
        ("norm_inf", lambda x: torch.linalg.vector_norm(x, math.inf, dim=1)),
        ("normalize", lambda x: F.normalize(x, dim=1)),
        ("cosine_similarity", lambda x: F.cosine_similarity(x[:, :2], x[:, 2:], dim=1)),
        ("logsumexp", lambda x: x.logsumexp(1)),
        ("any_all", lambda x: ((x > 2).any(1), (x > -2).all(3), (x > 0).any())),
        ("cumsum", lambda x: x.cumsum(2)),
    )


def norms() -> dict[str, Case]:
    rows = torch.randn(2, 5, 8)
    cases = _of_image(
        ("batch_norm2d", _measured(nn.BatchNorm2d(4))),
        ("batch_norm2d_plain", _measured(nn.BatchNorm2d(4, affine=False))),
        ("group_norm", _affine(nn.GroupNorm(2, 4))),
        ("group_norm_plain", nn.GroupNorm(4, 4, affine=False)),
        ("instance_norm", _affine(nn.InstanceNorm2d(4, affine=True))),
        ("instance_norm_plain", nn.InstanceNorm2d(4)),
        ("layer_norm_image", _affine(nn.LayerNorm([4, 8, 7]))),
        ("local_response_norm", nn.LocalResponseNorm(3)),
    )
    cases["batch_norm1d"] = _case(_measured(nn.BatchNorm1d(8)), torch.randn(2, 8))
    cases["layer_norm"] = _case(_affine(nn.LayerNorm(8)), rows)
    cases["layer_norm_plain"] = _case(nn.LayerNorm(8, elementwise_affine=False), rows)
    cases["layer_norm_no_bias"] = _case(_affine(nn.LayerNorm(8, bias=False)), rows)
    cases["rms_norm"] = _case(_affine(nn.RMSNorm(8)), rows)
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
        "linear": _case(nn.Linear(8, 6), torch.randn(2, 8)),
        "linear_no_bias": _case(nn.Linear(8, 6, bias=False), torch.randn(2, 8)),
        "linear_rank3": _case(nn.Linear(8, 6), rows),
        "linear_rank3_no_bias": _case(nn.Linear(8, 6, bias=False), rows),
        "linear_rank4": _case(nn.Linear(7, 6)),
        "linear_shared": _case(_SharedLinear(), torch.randn(2, 8)),
        "matmul": _case(lambda a, b: a @ b, rows, torch.randn(2, 8, 3)),
        "matmul_broadcast": _case(lambda a: a @ torch.ones(8, 3), rows),
        "matmul_vector": _case(lambda a: a @ torch.arange(8.0), rows),
        "bmm": _case(lambda a: torch.bmm(a, a.transpose(1, 2)), rows),
        "baddbmm": _case(lambda a: torch.baddbmm(bias, a, a.transpose(1, 2), beta=0.5, alpha=2), rows),
        "addmm": _case(
            lambda a: torch.addmm(torch.ones(3), a, torch.ones(8, 3), beta=0.5, alpha=2), torch.randn(2, 8)
        ),
        "einsum": _case(lambda a: torch.einsum("bik,bjk->bij", a, a), rows),
        "bilinear": _case(nn.Bilinear(8, 8, 3), torch.randn(2, 8), torch.randn(2, 8)),
        "attention": _case(F.scaled_dot_product_attention, heads, heads * 0.5, heads + 1),
        "attention_causal": _case(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), heads),
        "attention_bias": _case(lambda q: F.scaled_dot_product_attention(q, q, q, bias), heads),
        "attention_mask": _case(
            lambda q: F.scaled_dot_product_attention(q, q, q, lets_through, scale=0.3), heads
        ),
        "multihead": _case(_SelfAttention(), rows),
        "transformer_layer": _case(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), rows),
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

    cases = _of_image(
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
    cases["linear1d"] = _case(by(scale_factor=2, mode="linear"), torch.randn(2, 3, 6))
    cases["nearest1d"] = _case(by(scale_factor=3), torch.randn(2, 3, 6))
    cases["trilinear"] = _case(by(scale_factor=2, mode="trilinear"), torch.randn(2, 2, 3, 4, 3))
    grid = torch.rand(2, 5, 6, 2) * 2.4 - 1.2
    cases["grid_sample"] = _case(
        lambda x, g: F.grid_sample(x, g, align_corners=False), _image(), grid, since=16
    )
    cases["grid_sample_border"] = _case(
        lambda x, g: F.grid_sample(x, g, "nearest", "border", align_corners=True), _image(), grid, since=16
    )
    return cases


KINDS: Mapping[str, Callable[[], dict[str, Case]]] = {
    "conv": convolutions,
    "activation": activations,
    "elementwise": elementwise,
    "pool": pools,
    "shape": shapes,
    "index": indexing,
    "reduce": reductions,
    "norm": norms,
    "matmul": products,
    "resize": resizing,
}


def corpus() -> dict[str, Case]:
    """Every case, the same on every call; the global random state is left as it was."""
    cases: dict[str, Case] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind, make in KINDS.items():
            cases |= {f"{kind}/{name}": case for name, case in make().items()}
    return cases
