"""The same for what slides, moves, chooses, creates and resizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.backends.coreml import loops
from tests.backends.coreml.cases import IMAGE, ints, rand
from tests.backends.coreml.made import Array, Case

_UNPADDED = {"pad": "is read for custom only"}
_EVEN = {"ceil_mode": "the windows come out even"}
_UNFILLED = {"constant_val": "is read for constant only"}


def convolutions() -> list[Case]:
    weight, bias = rand(6, 2, 3, 2), rand(6)
    back, back_bias = rand(4, 3, 3, 2), rand(6)
    line, cube = rand(2, 4, 9), rand(1, 2, 4, 5, 3)
    custom = {"pad_type": "custom", "pad": [1, 2, 0, 1], "strides": [2, 1], "dilations": [2, 1], "groups": 2}
    return [
        Case(
            "conv",
            lambda mb, x: mb.conv(x=x, weight=weight, bias=bias, **custom),
            (IMAGE,),
            lambda x: loops.conv(x, weight, bias, [(1, 2), (0, 1)], (2, 1), (2, 1), 2),
        ),
        Case(
            "conv",
            lambda mb, x: mb.conv(x=x, weight=weight, bias=bias, pad_type="same", strides=[2, 2], groups=2),
            (IMAGE,),
            lambda x: loops.conv(x, weight, bias, [(1, 1), (0, 0)], (2, 2), (1, 1), 2),
            inert=_UNPADDED,
        ),
        Case(
            "conv",
            lambda mb, x: mb.conv(
                x=x, weight=weight, bias=bias, pad_type="same_lower", strides=[1, 1], groups=2
            ),
            (IMAGE,),
            lambda x: loops.conv(x, weight, bias, [(1, 1), (1, 0)], (1, 1), (1, 1), 2),
            ios=16,
            inert=_UNPADDED,
        ),
        Case(
            "conv",
            lambda mb, x: mb.conv(x=x, weight=rand_line, bias=bias, pad_type="valid", strides=[2]),
            (line,),
            lambda x: loops.conv(x, rand_line, bias, [(0, 0)], (2,), (1,), 1),
            inert=_UNPADDED,
        ),
        Case(
            "conv",
            lambda mb, x: mb.conv(
                x=x, weight=rand_cube, pad_type="custom", pad=[1, 0, 0, 0, 1, 1], strides=[1, 2, 1]
            ),
            (cube,),
            lambda x: loops.conv(
                x, rand_cube, np.zeros(3), [(1, 0), (0, 0), (1, 1)], (1, 2, 1), (1, 1, 1), 1
            ),
        ),
        Case(
            "conv_transpose",
            lambda mb, x: mb.conv_transpose(
                x=x,
                weight=back,
                bias=back_bias,
                pad_type="custom",
                pad=[1, 0, 1, 2],
                strides=[2, 3],
                dilations=[1, 2],
                groups=2,
            ),
            (IMAGE,),
            lambda x: loops.conv_transpose(x, back, back_bias, [(1, 0), (1, 2)], (2, 3), (1, 2), 2),
        ),
        Case(
            "conv_transpose",
            lambda mb, x: mb.conv_transpose(
                x=x, weight=back, bias=back_bias, pad_type="valid", strides=[2, 1], groups=2
            ),
            (IMAGE,),
            lambda x: loops.conv_transpose(x, back, back_bias, [(0, 0), (0, 0)], (2, 1), (1, 1), 2),
            inert=_UNPADDED,
        ),
    ]


rand_line, rand_cube = rand(6, 4, 3), rand(3, 2, 2, 3, 2)


def pools() -> list[Case]:
    sym = {"kernel_sizes": [3, 2], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]}
    odd = {"kernel_sizes": [3, 2], "strides": [2, 1], "pad_type": "custom", "pad": [0, 1, 1, 0]}
    sides = [(1, 1), (1, 1)]
    nan, low = float("nan"), float("-inf")
    exact = IMAGE[:, :, :6, :]
    return [
        Case(
            "max_pool",
            lambda mb, x: mb.max_pool(x=x, **odd),
            (IMAGE,),
            lambda x: loops.pool(x, np.max, (3, 2), (2, 1), [(0, 1), (1, 0)], outside=low),
        ),
        Case(
            "max_pool",
            lambda mb, x: mb.max_pool(x=x, ceil_mode=True, **sym),
            (exact,),
            lambda x: loops.pool(x, np.max, (3, 2), (2, 2), sides, outside=low, ceil=True),
            inert={"pad[3]": "the window that it would add begins behind the image"},
        ),
        Case(
            "max_pool",
            lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="same"),
            (IMAGE,),
            lambda x: loops.pool(x, np.max, (3, 3), (2, 2), [(1, 1), (0, 1)], outside=low),
            inert={**_UNPADDED, **_EVEN},
        ),
        Case(
            "avg_pool",
            lambda mb, x: mb.avg_pool(x=x, exclude_padding_from_average=True, **sym),
            (IMAGE,),
            lambda x: loops.pool(x, np.nanmean, (3, 2), (2, 2), sides, outside=nan),
            inert=_EVEN,
        ),
        Case(
            "avg_pool",
            lambda mb, x: mb.avg_pool(x=x, exclude_padding_from_average=False, **odd),
            (IMAGE,),
            lambda x: loops.pool(x, np.mean, (3, 2), (2, 1), [(0, 1), (1, 0)], outside=0.0),
        ),
        Case(
            "avg_pool",
            lambda mb, x: mb.avg_pool(x=x, exclude_padding_from_average=False, ceil_mode=True, **sym),
            (exact,),
            lambda x: loops.pool(x, np.mean, (3, 2), (2, 2), sides, outside=0.0, ceil=True),
        ),
        Case(
            "avg_pool",
            lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
            (IMAGE,),
            lambda x: loops.pool(x, np.mean, (2, 2), (2, 2), [(0, 0), (0, 0)], outside=0.0),
            inert={**_UNPADDED, **_EVEN, "exclude_padding_from_average": "there is none"},
        ),
        Case(
            "l2_pool",
            lambda mb, x: mb.l2_pool(x=x, **odd),
            (IMAGE,),
            lambda x: loops.pool(
                x, lambda w: np.sqrt((w**2).sum()), (3, 2), (2, 1), [(0, 1), (1, 0)], outside=0.0
            ),
        ),
    ]


def products() -> list[Case]:
    weight, bias = rand(5, 6), rand(5)
    a, b = rand(2, 3, 4), rand(2, 5, 4)
    query, key, value = rand(2, 3, 5, 4), rand(2, 3, 6, 4), rand(2, 3, 6, 2)
    return [
        Case("linear", lambda mb, x: mb.linear(x=x, weight=weight, bias=bias), (rand(2, 6),)),
        Case("matmul", lambda mb, x, y: mb.matmul(x=x, y=y, transpose_y=True, transpose_x=False), (a, b)),
        Case(
            "matmul",
            lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=False),
            (rand(2, 4, 4), rand(2, 4, 3)),
        ),
        Case(
            "einsum",
            lambda mb, x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
            (rand(2, 3, 4, 5), rand(2, 5, 4, 6)),
            lambda x, y: np.einsum("nchw,nwhu->nchu", x, y),
        ),
        Case(
            "scaled_dot_product_attention",
            lambda mb, q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            (query, key, value),
            ios=18,
        ),
        Case(
            "scaled_dot_product_attention",
            lambda mb, q, k, v: mb.scaled_dot_product_attention(
                query=q, key=k, value=v, attn_mask=np.tril(np.ones((5, 6), bool))
            ),
            (query, key, value),
            ios=18,
        ),
    ]


def shapes() -> list[Case]:
    x, two = rand(2, 3, 4), (rand(2, 3), rand(2, 3))
    return [
        Case("reshape", lambda mb, x: mb.reshape(x=x, shape=[4, -1]), (x,)),
        Case("reshape", lambda mb, x: mb.reshape(x=x, shape=[0, -1, 2]), (x,), lambda x: x.reshape(2, -1, 2)),
        Case(
            "reshape",
            lambda mb, x: mb.reshape(x=x, shape=[1, 0, -1, 0]),
            (rand(2, 50),),
            lambda x: x.reshape(1, 1, 2, 50),
            ios=17,
        ),
        Case(
            "reshape_like",
            lambda mb, x, r: mb.reshape_like(
                x=x, ref_tensors=(r,), begins=(0,), ends=(2,), end_masks=(False,)
            ),
            (x, rand(6, 4, 1)),
            lambda x, r: x.reshape(6, 4),
            ios=16,
            inert={"end_masks": "the rest of the reference is of size 1"},
        ),
        Case("transpose", lambda mb, x: mb.transpose(x=x, perm=[2, 0, 1]), (x,)),
        Case("expand_dims", lambda mb, x: mb.expand_dims(x=x, axes=[-1, 1]), (x,)),
        Case("squeeze", lambda mb, x: mb.squeeze(x=x, axes=[1]), (rand(2, 1, 3, 1),)),
        Case("squeeze", lambda mb, x: mb.squeeze(x=x), (rand(2, 1, 3, 1),)),
        Case("flatten2d", lambda mb, x: mb.flatten2d(x=x, axis=2), (x,)),
        Case("flatten2d", lambda mb, x: mb.flatten2d(x=x, axis=-1), (x,)),
        Case("concat", lambda mb, a, b: mb.concat(values=(a, b), axis=-1), two),
        Case(
            "concat",
            lambda mb, a, b: mb.concat(values=(a, b), axis=0, interleave=True),
            two,
            lambda a, b: np.stack([a, b], 1).reshape(4, 3),
        ),
        Case("split", lambda mb, x: mb.split(x=x, split_sizes=[1, 3], axis=-1), (x,)),
        Case("split", lambda mb, x: mb.split(x=x, num_splits=2, axis=2), (x,)),
        Case("stack", lambda mb, a, b: mb.stack(values=(a, b), axis=1), two),
        Case("shape", lambda mb, x: mb.shape(x=x), (x,)),
        Case("tile", lambda mb, x: mb.tile(x=x, reps=[2, 1, 3]), (x,)),
        Case(
            "pad",
            lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 1], mode="constant", constant_val=np.float32(0.5)),
            (x,),
        ),
        Case("pad", lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 1], mode="reflect"), (x,), inert=_UNFILLED),
        Case("pad", lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 1], mode="replicate"), (x,), inert=_UNFILLED),
        Case("reverse", lambda mb, x: mb.reverse(x=x, axes=[0, 2]), (x,)),
        Case(
            "depth_to_space",
            lambda mb, x: mb.depth_to_space(x=x, block_size=2),
            (rand(1, 8, 2, 3),),
            lambda x: _depth_to_space(x, 2),
        ),
        Case(
            "space_to_depth",
            lambda mb, x: mb.space_to_depth(x=x, block_size=2),
            (rand(1, 2, 4, 6),),
            lambda x: _space_to_depth(x, 2),
        ),
        Case(
            "pixel_shuffle",
            lambda mb, x: mb.pixel_shuffle(x=x, upscale_factor=2),
            (rand(1, 8, 2, 3),),
            lambda x: _pixel_shuffle(x, 2),
        ),
        Case(
            "pixel_unshuffle",
            lambda mb, x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            (_pixel_shuffle(PIXELS, 2),),
            lambda x: PIXELS,
            ios=16,
        ),
        Case(
            "sliding_windows",
            lambda mb, x: mb.sliding_windows(x=x, axis=1, size=3, stride=2),
            (rand(2, 7, 2),),
            _windows,
        ),
    ]


PIXELS = rand(1, 8, 2, 3)


def _windows(x: Array) -> Array:
    return np.stack([x[:, i : i + 3] for i in range(0, 5, 2)], 1)


def _depth_to_space(x: Array, b: int) -> Array:
    n, c, h, w = x.shape
    out = np.zeros((n, c // b**2, h * b, w * b), x.dtype)
    for i in range(b):
        for j in range(b):
            out[:, :, i::b, j::b] = x[:, (i * b + j) * (c // b**2) : (i * b + j + 1) * (c // b**2)]
    return out


def _space_to_depth(x: Array, b: int) -> Array:
    return np.concatenate([x[:, :, i::b, j::b] for i in range(b) for j in range(b)], 1)


def _pixel_shuffle(x: Array, b: int) -> Array:
    n, c, h, w = x.shape
    out = np.zeros((n, c // b**2, h * b, w * b), x.dtype)
    for i in range(b):
        for j in range(b):
            out[:, :, i::b, j::b] = x[:, i * b + j :: b**2]
    return out


def choices() -> list[Case]:
    x, at = rand(3, 4, 5), np.array([2, 0, 1], np.int32)
    unchecked = {"validate_indices": "all indices are good"}
    rows = np.array([[0, 1, 3, 0, 2]], np.int32).repeat(3, 0)[:, None]
    places = np.array([[0, 1], [2, 3]], np.int32)
    slots = {"begin": [0, 3, 0], "end": [2, 0, 5], "stride": [1, -1, 2]}
    found = [
        Case("slice_by_index", lambda mb, x: mb.slice_by_index(x=x, **slots), (x,)),
        Case(
            "slice_by_index",
            lambda mb, x: mb.slice_by_index(
                x=x,
                begin=[1, 1, 1],
                end=[2, 2, 4],
                begin_mask=[False, True, False],
                end_mask=[False, False, True],
                squeeze_mask=[True, False, False],
            ),
            (x,),
            lambda x: x[1, :2, 1:],
            inert=dict.fromkeys(
                ("begin[1]", "end[0]", "end[2]", "end_mask[0]"), "is masked, or a neighbour is"
            ),
        ),
        Case("slice_by_size", lambda mb, x: mb.slice_by_size(x=x, begin=[1, 0, 2], size=[2, 3, -1]), (x,)),
        Case(
            "slice_update",
            lambda mb, x, u: mb.slice_update(x=x, update=u, begin=[0, 1, 0], end=[2, 4, 5], stride=[1, 2, 2]),
            (x, rand(2, 2, 3)),
            ios=18,
        ),
        Case("gather", lambda mb, x: mb.gather(x=x, indices=at, axis=1), (x,)),
        Case(
            "gather",
            lambda mb, x: mb.gather(x=x, indices=np.array([[0, -1], [1, 1]], np.int32), axis=-1),
            (x,),
        ),
        Case(
            "gather",
            lambda mb, x: mb.gather(
                x=x, indices=np.array([[0, 2], [1, 1], [3, 0]], np.int32), axis=1, batch_dims=1
            ),
            (x,),
            lambda x: np.stack([x[i][[[0, 2], [1, 1], [3, 0]][i]] for i in range(3)]),
            ios=16,
        ),
        Case(
            "gather",
            lambda mb, x: mb.gather(x=x, indices=at, axis=1, batch_dims=0, validate_indices=False),
            (x,),
            ios=17,
            inert=unchecked,
        ),
        Case("gather_along_axis", lambda mb, x: mb.gather_along_axis(x=x, indices=rows, axis=1), (x,)),
        Case("gather_nd", lambda mb, x: mb.gather_nd(x=x, indices=places), (x,), lambda x: x[[0, 2], [1, 3]]),
        Case(
            "gather_nd",
            lambda mb, x: mb.gather_nd(x=x, indices=np.array([[1], [0], [3]], np.int32), batch_dims=1),
            (x,),
            lambda x: x[[0, 1, 2], [1, 0, 3]],
            ios=16,
        ),
        Case("topk", lambda mb, x: mb.topk(x=x, k=2, axis=1, ascending=True), (x,)),
        Case("topk", lambda mb, x: mb.topk(x=x, k=3, axis=-1, ascending=False), (x,)),
        Case("argsort", lambda mb, x: mb.argsort(x=x, axis=1, ascending=True), (x,)),
        Case("argsort", lambda mb, x: mb.argsort(x=x, axis=-1, ascending=False), (x,)),
        Case(
            "non_zero",
            lambda mb, x: mb.non_zero(x=x),
            (ints(3, 4, low=-1, high=2),),
            lambda x: np.argwhere(x),
        ),
    ]
    for mode in ("update", "add", "sub", "mul", "div", "max", "min"):
        found.append(
            Case(
                "scatter",
                lambda mb, d, u, m=mode: mb.scatter(data=d, indices=at, updates=u, axis=1, mode=m),
                (x, rand(3, 3, 5, low=0.5)),
                _scattered(mode, lambda d: (slice(None), at)),
            )
        )
        found.append(
            Case(
                "scatter_nd",
                lambda mb, d, u, m=mode: mb.scatter_nd(data=d, indices=places, updates=u, mode=m),
                (x, rand(2, 5, low=0.5)),
                _scattered(mode, lambda d: ([0, 2], [1, 3])),
            )
        )
    along = np.array([1, 0, 3, 2, 1], np.int32)[None, None].repeat(3, 0)
    found.append(
        Case(
            "scatter_along_axis",
            lambda mb, d, u: mb.scatter_along_axis(data=d, indices=along, updates=u, axis=1, mode="add"),
            (x, rand(3, 1, 5)),
            lambda d, u: _along(d, u, along),
        )
    )
    return found


def _scattered(mode: str, place: Any) -> Any:
    work = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "max": np.maximum,
        "min": np.minimum,
    }

    def oracle(data: Array, updates: Array) -> Array:
        result = data.copy()
        at = place(data)
        result[at] = updates if mode == "update" else work[mode](result[at], updates)
        return result

    return oracle


def _along(data: Array, updates: Array, at: Array) -> Array:
    result = data.copy()
    np.put_along_axis(result, at, np.take_along_axis(result, at, 1) + updates, 1)
    return result


def creations() -> list[Case]:
    x = rand(2, 3, 4)
    hot = np.array([1, 0, 3], np.int32)
    return [
        Case(
            "fill",
            lambda mb, x: mb.add(x=mb.fill(shape=mb.shape(x=x), value=np.float32(2.5)), y=x),
            (x,),
            lambda x: x + 2.5,
        ),
        Case(
            "fill_like",
            lambda mb, x: mb.add(x=mb.fill_like(ref_tensor=x, value=np.float32(2.5)), y=x),
            (x,),
            lambda x: x + 2.5,
            ios=16,
        ),
        Case(
            "range_1d",
            lambda mb, e: mb.range_1d(start=np.int32(1), end=mb.squeeze(x=e), step=np.int32(3)),
            (np.array([11], np.int32),),
            lambda e: np.arange(1, 11, 3),
        ),
        Case(
            "one_hot",
            lambda mb, i: mb.one_hot(
                indices=i, one_hot_vector_size=4, axis=0, on_value=np.float32(2.5), off_value=np.float32(-1)
            ),
            (hot,),
            lambda i: np.where(np.eye(4)[i].T > 0, 2.5, -1),
        ),
        Case("cumsum", lambda mb, x: mb.cumsum(x=x, axis=1, reverse=True, exclusive=False), (x,)),
        Case(
            "cumsum",
            lambda mb, x: mb.cumsum(x=x, axis=1, exclusive=True, reverse=False),
            (x,),
            lambda x: np.cumsum(x, 1) - x,
        ),
        Case("band_part", lambda mb, x: mb.band_part(x=x, lower=0, upper=1), (rand(2, 4, 5),)),
        Case("band_part", lambda mb, x: mb.band_part(x=x, lower=2, upper=-1), (rand(2, 4, 5),)),
    ]


def resizes() -> list[Case]:
    x = rand(1, 2, 5, 4)
    h, w = np.arange(7), np.arange(6)
    grids = {
        "STRICT_ALIGN_CORNERS": (h * 4 / 6, w * 3 / 5),
        "ALIGN_CORNERS": (h * 4 / 6, w * 3 / 5),
        "DEFAULT": (np.minimum(h * 5 / 7, 4), np.minimum(w * 4 / 6, 3)),
        "OFFSET_CORNERS": (np.minimum(4, (h + 0.5) * 4 / 7), np.minimum(3, (w + 0.5) * 3 / 6)),
        "UNALIGN_CORNERS": (np.clip((h + 0.5) * 5 / 7 - 0.5, 0, 4), np.clip((w + 0.5) * 4 / 6 - 0.5, 0, 3)),
    }
    found = [
        Case(
            "resize_bilinear",
            lambda mb, x, m=m: mb.resize_bilinear(
                x=x, target_size_height=7, target_size_width=6, sampling_mode=m
            ),
            (x,),
            lambda x, g=g: loops.bilinear(x, g),
        )
        for m, g in grids.items()
    ]
    found += [
        Case(
            "resize",
            lambda mb, x, m=m: mb.resize(
                x=x, shape=[7, 6], resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode=m
            ),
            (x,),
            lambda x, g=g: loops.bilinear(x, g),
            ios=17,
        )
        for m, g in grids.items()
    ]
    around = rand(1, 3, 3, 2, low=-1.2, high=1.2)
    return [
        *found,
        Case(
            "resize",
            lambda mb, x: mb.resize(
                x=x,
                shape=[10, 0],
                resized_dims=np.uint32(2),
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="DEFAULT",
            ),
            (x,),
            lambda x: x.repeat(2, 2),
            ios=17,
            inert={"sampling_mode": "twice the size: the nearest is the same one"},
        ),
        Case(
            "upsample_bilinear",
            lambda mb, x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=3, align_corners=True
            ),
            (x,),
            lambda x: loops.bilinear(x, (np.arange(10) * 4 / 9, np.arange(12) * 3 / 11)),
        ),
        Case(
            "upsample_bilinear",
            lambda mb, x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False
            ),
            (x,),
            lambda x: loops.bilinear(
                x,
                (
                    np.clip((np.arange(10) + 0.5) / 2 - 0.5, 0, 4),
                    np.clip((np.arange(12) + 0.5) / 3 - 0.5, 0, 3),
                ),
            ),
        ),
        Case(
            "upsample_nearest_neighbor",
            lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            (x,),
            lambda x: x.repeat(2, 2).repeat(3, 3),
        ),
        Case(
            "resize_nearest_neighbor",
            lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=10, target_size_width=2),
            (x,),
            lambda x: x.repeat(2, 2)[..., ::2],
        ),
        Case(
            "crop",
            lambda mb, x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 1]),
            (x,),
            lambda x: x[:, :, 1:3, :3],
        ),
        Case(
            "resample",
            lambda mb, x, c: mb.resample(
                x=x,
                coordinates=c,
                sampling_mode="bilinear",
                padding_mode="constant",
                padding_value=np.float32(0),
                coordinates_mode="normalized_minus_one_to_one",
                align_corners=True,
            ),
            (x, around),
            _sampled,
        ),
    ]


def _sampled(x: Array, points: Array) -> Array:
    wide = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    result = np.zeros((*x.shape[:2], *points.shape[1:3]))
    for i in range(points.shape[1]):
        for j in range(points.shape[2]):
            column, row = (points[0, i, j] + 1) / 2 * (np.array(x.shape[:1:-1]) - 1) + 2
            r, c = int(np.floor(row)), int(np.floor(column))
            a, b = row - r, column - c
            near = wide[0, :, r : r + 2, c : c + 2]
            result[0, :, i, j] = (near * np.outer([1 - a, a], [1 - b, b])).sum((1, 2))
    return result


def quantizers() -> list[Case]:
    x, scale = rand(2, 3, 4), np.array([0.02, 0.1, 0.3], np.float32)
    zero = np.array([1, -2, 3], np.int8)
    ties = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 300, -300], np.float32)

    def twice(mb: Any, x: Any, **settings: Any) -> Any:
        codes = mb.quantize(input=x, **settings)
        settings.pop("output_dtype")
        return mb.dequantize(input=codes, **settings)

    def formula(x: Array, s: Any, z: Any, low: int, high: int) -> Array:
        return ((np.clip(np.round(x / s) + z, low, high)) - z) * s

    vector = {"scale": scale, "zero_point": zero, "axis": np.int32(1)}
    return [
        Case(
            "quantize",
            lambda mb, x: twice(mb, x, output_dtype="int8", **vector),
            (x,),
            lambda x: formula(x, scale[:, None], zero[:, None].astype(np.float32), -128, 127),
            ios=17,
        ),
        Case(
            "dequantize",
            lambda mb, x: twice(
                mb, x, output_dtype="uint8", scale=np.float32(0.02), zero_point=np.uint8(128)
            ),
            (x,),
            lambda x: formula(x, np.float32(0.02), 128, 0, 255),
            ios=17,
        ),
        Case(
            "quantize",
            lambda mb, x: twice(mb, x, output_dtype="int8", scale=np.float32(1)),
            (ties,),
            lambda x: formula(x, 1, 0, -128, 127),
            ios=17,
        ),
    ]


CASES = [
    *convolutions(),
    *pools(),
    *products(),
    *shapes(),
    *choices(),
    *creations(),
    *resizes(),
    *quantizers(),
]
