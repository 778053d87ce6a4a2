"""Operators that move data: reshapes, permutations, slices, joins, pads, and gathering by index."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random.choices import Choices
from tests.random.op import (
    Op,
    Params,
    anything,
    axis,
    deep,
    divisors,
    has_axes,
    image,
    is_float,
    joins,
    layer,
    same,
    tokens,
    volume,
)

ANY = (anything,)
AXES = (has_axes,)
DEEP = (deep,)
IMAGE = (image,)


def _sizes(c: Choices, x: Tensor) -> Params:
    """Sizes that hold the same number of elements per sample; often one is left to be worked out."""
    left, sizes = math.prod(x.shape[1:]), []
    for _ in range(c.integer(0, 2)):
        sizes.append(c.pick(divisors(left)))
        left //= sizes[-1]
    sizes.append(left)
    if c.chance(40):
        sizes[c.integer(0, len(sizes) - 1)] = -1
    return {"sizes": tuple(sizes)}


def _flat_from(c: Choices, x: Tensor) -> Params:
    start = c.integer(1, x.dim() - 1)
    return {"start": start, "end": c.pick((-1, c.integer(start, x.dim() - 1)))}


def _split_axis(c: Choices, x: Tensor) -> Params:
    dim = c.integer(1, x.dim() - 1)
    factor = c.pick(divisors(x.shape[dim]))
    return {"dim": dim, "sizes": (factor, x.shape[dim] // factor)}


def _order(c: Choices, x: Tensor) -> Params:
    rest = list(range(1, x.dim()))
    return {"order": (0, *(rest.pop(c.integer(0, len(rest) - 1)) for _ in range(x.dim() - 1)))}


def _two_axes(c: Choices, x: Tensor) -> Params:
    return {"a": c.integer(1, x.dim() - 1), "b": -c.integer(1, x.dim() - 1)}


def _single(c: Choices, x: Tensor) -> Params | None:
    ones = [i for i in range(1, x.dim()) if x.shape[i] == 1]
    return {"dim": c.pick(ones)} if ones else None


def _new_axis(c: Choices, x: Tensor) -> Params | None:
    return {"dim": c.pick((*range(1, x.dim() + 1), -1))} if x.dim() < 5 else None


def _expanded(c: Choices, x: Tensor) -> Params | None:
    found = _single(c, x)
    return None if found is None else {**found, "size": c.integer(2, 4)}


def _repeats(c: Choices, x: Tensor) -> Params:
    return {"times": (1, *(c.pick((1, 2, 1, 3)) for _ in x.shape[1:]))}


def _factor(c: Choices, x: Tensor) -> Params | None:
    return {"by": 2} if x.shape[1] % 4 == 0 else None


def _unfactor(c: Choices, x: Tensor) -> Params | None:
    return {"by": 2} if x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0 else None


def _groups(c: Choices, x: Tensor) -> Params:
    return {"groups": c.pick(divisors(x.shape[1]))}


def _slice(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    size = x.shape[dim]
    start = c.integer(0, size - 1)
    stop = c.integer(start + 1, size)
    return {
        "dim": dim,
        "start": start - size if c.chance(20) else start,
        "stop": stop,
        "step": c.pick((1, 1, 2, 3)),
    }


def _cut(x: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    index = [slice(None)] * dim + [slice(start, stop, step)]
    return x[tuple(index)]


def _index(c: Choices, x: Tensor) -> Params:
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim, "index": c.integer(0, x.shape[dim] - 1) - (x.shape[dim] if c.chance(30) else 0)}


def _indices(c: Choices, x: Tensor) -> Params:
    dim = c.integer(1, x.dim() - 1)
    return {
        "dim": dim,
        "indices": tuple(c.integer(0, x.shape[dim] - 1) for _ in range(c.integer(1, 4))),
    }


def _pick(x: Tensor, dim: int, indices: tuple[int, ...]) -> Tensor:
    return x[(slice(None),) * dim + (torch.tensor(indices),)]


def _pieces(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim, "count": c.integer(2, 3)} if x.shape[dim] >= 3 else None


def _two_sizes(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    if x.shape[dim] < 2:
        return None
    first = c.integer(1, x.shape[dim] - 1)
    return {"dim": dim, "sizes": (first, x.shape[dim] - first)}


def _halves(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim} if x.shape[dim] % 2 == 0 else None


def _few(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim} if 2 <= x.shape[dim] <= 4 and x.dim() > 2 else None


def _join(c: Choices, x: Tensor, y: Tensor) -> Params:
    differs = [i for i in range(1, x.dim()) if x.shape[i] != y.shape[i]]
    return {"dim": differs[0] if differs else c.integer(1, x.dim() - 1)}


def _joined(c: Choices, x: Tensor, y: Tensor, z: Tensor) -> Params | None:
    differs = {i for i in range(1, x.dim()) if not x.shape[i] == y.shape[i] == z.shape[i]}
    return {"dim": differs.pop() if differs else 1} if len(differs) <= 1 else None


def _pad(c: Choices, x: Tensor) -> Params:
    return {"pad": tuple(c.integer(0, 2) for _ in range(4))}


def _constant_pad(c: Choices, x: Tensor) -> Params:
    count = c.integer(1, min(x.dim() - 1, 3))
    return {
        "pad": tuple(c.pick((0, 1, 2, -1)) for _ in range(2 * count)),
        "value": c.pick((0.0, 1.5, -0.5)),
    }


def _shifts(c: Choices, x: Tensor) -> Params:
    return {"shifts": c.integer(-2, 3), "dim": c.integer(1, x.dim() - 1)}


def _diagonal(c: Choices, x: Tensor) -> Params:
    return {"k": c.integer(-1, 1), "upper": c.chance(50)}


def _windows(c: Choices, x: Tensor) -> Params | None:
    if min(x.shape[2:]) < 3:
        return None
    return {"kernel": c.pick((3, 2, (2, 3))), "stride": c.integer(1, 2), "padding": c.integer(0, 1)}


def _stretch(c: Choices, x: Tensor) -> Params | None:
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim, "size": 2, "step": c.integer(1, 2)} if x.shape[dim] >= 2 and x.dim() < 5 else None


def _rolled(x: Tensor, shifts: int, dim: int) -> Tensor:
    return x.roll((shifts, -1), (dim, x.dim() - 1))


def _write(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :1] = 0.5
    y[..., -1] = x[..., 0]
    return y


def _add_into(x: Tensor) -> Tensor:
    y = x * 1
    y[:, :1] += 1
    return y


def _shuffle(x: Tensor, groups: int) -> Tensor:
    return x.view(x.shape[0], groups, -1, x.shape[2], x.shape[3]).transpose(1, 2).contiguous().view(x.size())


def _gathered(x: Tensor, dim: int) -> Tensor:
    shape = [1] * x.dim()
    shape[dim] = 2
    return x.take_along_dim(torch.tensor([x.shape[dim] - 1, 0]).reshape(shape), dim)


RESHAPES = {
    "reshape": Op(lambda x, sizes: x.reshape(x.shape[0], *sizes), _sizes, ANY, weight=5),
    "view": Op(lambda x, sizes: x.view(x.shape[0], *sizes), _sizes, ANY, weight=3),
    "flatten": Op(lambda x, start, end: x.flatten(start, end), _flat_from, ANY, weight=5),
    "unflatten": Op(lambda x, dim, sizes: x.unflatten(dim, sizes), _split_axis, AXES),
    "merge_batch": Op(lambda x: x.reshape(-1, *x.shape[2:]).relu().reshape(x.shape), accepts=DEEP),
    "merge_axis_and_batch": Op(lambda x: x.flatten(0, 1).sigmoid().unflatten(0, (-1, x.shape[1])), accepts=DEEP),
    "permute": Op(lambda x, order: x.permute(order), _order, DEEP, weight=5),
    "transpose": Op(lambda x, a, b: x.transpose(a, b), _two_axes, AXES, weight=4),
    "movedim": Op(lambda x, a, b: x.movedim(a, b), _two_axes, AXES),
    "swapaxes": Op(lambda x: x.swapaxes(-1, -2), accepts=DEEP),
    "matrix_transpose": Op(lambda x: x.mT, accepts=DEEP),
    "squeeze": Op(lambda x, dim: x.squeeze(dim), _single, AXES, weight=4),
    "unsqueeze": Op(lambda x, dim: x.unsqueeze(dim), _new_axis, AXES, weight=4),
    "expand": Op(lambda x, dim, size: x.expand(*[size if i == dim else -1 for i in range(x.dim())]), _expanded, AXES, weight=4),
    "expand_as": Op(lambda x: x.amax(1, keepdim=True).expand_as(x), accepts=AXES),
    "repeat": Op(lambda x, times: x.repeat(times), _repeats, AXES),
    "tile": Op(lambda x: x.tile(2), accepts=AXES),
    "repeat_interleave": Op(lambda x, dim: x.repeat_interleave(2, dim=dim), axis, AXES),
    "pixel_shuffle": layer(nn.PixelShuffle, lambda c, x: _factor(c, x) and {"upscale_factor": 2}, weight=3),
    "pixel_unshuffle": Op(lambda x, by: F.pixel_unshuffle(x, by), _unfactor, IMAGE, weight=3),
    "channel_shuffle": layer(nn.ChannelShuffle, _groups, weight=2),
    "channel_shuffle_by_hand": Op(_shuffle, _groups, IMAGE, weight=3),
    "contiguous": Op(lambda x: x.transpose(1, -1).contiguous(), accepts=AXES),
    "batch_number": Op(lambda x: x / (1 + x.shape[0]), accepts=AXES, weight=1),
}  # fmt: skip

PARTS = {
    "slice": Op(_cut, _slice, ANY, weight=5),
    "slice_dots": Op(lambda x: x[..., 1:, :], accepts=DEEP),
    "select": Op(lambda x, dim, index: x.select(dim, index), _index, (deep,), weight=4),
    "narrow": Op(lambda x: x.narrow(1, 0, (x.shape[1] + 1) // 2), accepts=AXES),
    "split": Op(lambda x, dim, sizes: x.split(sizes, dim), _two_sizes, AXES, weight=4),
    "split_equal": Op(lambda x, dim, count: x.split(count, dim), lambda c, x: p if (p := _pieces(c, x)) and x.shape[p["dim"]] <= 6 else None, AXES),
    "chunk": Op(lambda x, dim, count: x.chunk(count, dim), _pieces, AXES, weight=4),
    "tensor_split": Op(lambda x, dim, count: x.tensor_split(count, dim), _pieces, AXES),
    "unbind": Op(lambda x, dim: x.unbind(dim), _few, AXES, weight=3),
    "halves_swapped": Op(lambda x, dim: torch.cat(x.chunk(2, dim)[::-1], dim), _halves, AXES, weight=3),
    "even_and_odd": Op(lambda x: torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]], 1), lambda c, x: _unfactor(c, x) and {}, IMAGE),
    "index": Op(_pick, _indices, AXES, weight=3),
    "index_two": Op(lambda x: x[:, torch.tensor([0, x.shape[1] - 1, 0]), torch.tensor([0, 0, x.shape[2] - 1])], accepts=DEEP),
    "index_select": Op(lambda x, dim, indices: x.index_select(dim, torch.tensor(indices)), _indices, AXES),
    "gather": Op(lambda x: x.gather(1, (x > 0).long() * (x.shape[1] - 1)), accepts=AXES, jumps=True),
    "take_along_dim": Op(_gathered, lambda c, x: {"dim": c.integer(1, x.dim() - 1)}, AXES, fixes=True),
    "unfold": Op(lambda x, dim, size, step: x.unfold(dim, size, step), _stretch, AXES),
    "im2col": Op(lambda x, kernel, stride, padding: F.unfold(x, kernel, padding=padding, stride=stride), _windows, IMAGE),
    "topk": Op(lambda x, dim: x.topk(min(2, x.shape[dim]), dim), axis, AXES, jumps=True, ties=True),
    "sort": Op(lambda x, dim: x.sort(dim, descending=True), axis, AXES, jumps=True, ties=True),
    "argsort": Op(lambda x, dim: x.argsort(dim), axis, AXES, jumps=True, ties=True),
    "take_best": Op(lambda x: x.take_along_dim(x.argmax(1, keepdim=True), 1), accepts=AXES, jumps=True, ties=True, fixes=True),
}  # fmt: skip

JOINS = {
    "cat": Op(lambda x, y, dim: torch.cat([x, y], dim), _join, (has_axes, joins), weight=12),
    "cat_three": Op(lambda x, y, z, dim: torch.cat([x, y, z], dim), _joined, (has_axes, joins, joins), weight=5),
    "cat_self": Op(lambda x, dim: torch.cat([x, x], dim), axis, AXES),
    "stack": Op(lambda x, y, dim: torch.stack([x, y], dim), lambda c, x, y: {"dim": c.integer(1, x.dim())} if x.dim() < 5 else None, (has_axes, same), weight=3),
    "pad": Op(lambda x, pad, value: F.pad(x, pad, value=value), _constant_pad, AXES, weight=3),
    "pad_zero": layer(nn.ZeroPad2d, lambda c, x: {"padding": _pad(c, x)["pad"]}, weight=2),
    "pad_reflect": Op(lambda x, pad: F.pad(x, pad, mode="reflect"), lambda c, x: _pad(c, x) if min(x.shape[2:]) > 2 else None, IMAGE),
    "pad_reflect1d": Op(lambda x: F.pad(x, (1, 0), mode="reflect"), lambda c, x: {} if x.shape[2] > 1 else None, (tokens,)),
    "pad_replicate": Op(lambda x, pad: F.pad(x, pad, mode="replicate"), _pad, IMAGE),
    "pad_replicate1d": Op(lambda x: F.pad(x, (0, 2), mode="replicate"), accepts=(tokens,)),
    "pad_replicate3d": Op(lambda x: F.pad(x, (1, 0, 0, 1, 1, 0), mode="replicate"), accepts=(volume,)),
    "roll": Op(_rolled, _shifts, AXES, weight=3),
    "flip": Op(lambda x, dim: x.flip(dim), axis, AXES),
    "triangle": Op(lambda x, k, upper: x.triu(k) if upper else x.tril(k), _diagonal, DEEP),
    "write_slice": Op(_write, accepts=AXES),
    "add_into_slice": Op(_add_into, accepts=AXES),
    "scatter": Op(lambda x: x.scatter(1, (x[:, :1] > 0).long() * (x.shape[1] - 1), 0.5), accepts=AXES, jumps=True),
    "positions": Op(lambda x: x + torch.arange(x.shape[-1], dtype=x.dtype) / 8, accepts=AXES),
    "column": Op(lambda x: torch.cat([x.new_full((x.shape[0], 1), 0.5), x.flatten(1)], 1), accepts=AXES),
    "corner": Op(lambda x: x.new_ones((x.shape[0], 1)) + x.flatten(1).mean(1, keepdim=True), accepts=(is_float,)),
    "class_token": Op(lambda x: torch.cat([torch.linspace(-1, 1, x.shape[2]).expand(x.shape[0], 1, -1), x], 1), accepts=(tokens,), weight=3),
}  # fmt: skip

OPS = {**RESHAPES, **PARTS, **JOINS}
