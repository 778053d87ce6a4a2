"""Operators of the corpus: activations, arithmetic, shapes, indexing and reductions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conformance.case import Case, case, image, of_image


def activations() -> dict[str, Case]:
    modules = (
        nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.LeakyReLU(0.2),
        nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.Hardsigmoid(), nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.Softplus(),
        nn.GELU(), nn.GLU(1), nn.Threshold(0.1, -2.0), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.Softsign(),
        nn.RReLU(), nn.Softmin(1),
    )  # fmt: skip
    cases = {type(m).__name__.lower(): case(m, 3 * image()) for m in modules}
    cases["prelu"] = case(_prelu(4))
    cases["prelu_one"] = case(_prelu(1))
    cases["gelu_tanh"] = case(nn.GELU("tanh"))
    cases["softplus_beta"] = case(nn.Softplus(2.0))
    cases["softmax_channel"] = case(nn.Softmax(1))
    cases["softmax_last"] = case(nn.Softmax(-1))
    cases["softmax_dtype"] = case(lambda x: F.softmax(x.int(), 1, dtype=torch.float32))
    cases["log_softmax"] = case(nn.LogSoftmax(1))
    return cases


def _prelu(count: int) -> nn.Module:
    module = nn.PReLU(count)
    with torch.no_grad():
        module.weight.copy_(torch.rand(count))
    return module


def elementwise() -> dict[str, Case]:
    column = torch.rand(4, 1, 1) + 0.5
    return of_image(
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


def shapes() -> dict[str, Case]:
    return of_image(
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
    cases = of_image(
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
    cases["gather"] = case(cases["gather"].module, batched=False)
    cases["scatter"] = case(cases["scatter"].module, batched=False)
    cases["embedding"] = case(nn.Embedding(10, 4), torch.randint(0, 10, (2, 5)))
    cases["pad_circular"] = case(nn.CircularPad2d(1), since=19)
    cases["take_along_dim"] = case(lambda x: x.take_along_dim(x.argmax(1, keepdim=True), 1), batched=False)
    return cases


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 1:3] = 0.5
    y[:, 2] = x[:, 0]
    return y


def reductions() -> dict[str, Case]:
    return of_image(
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
