"""The same for what slides over images, and for products."""

from __future__ import annotations

import numpy as np

from tests.backends.coreml import loops
from tests.backends.coreml.cases import IMAGE, rand
from tests.backends.coreml.made import Case

_UNPADDED = {"pad": "is read for custom only"}


_EVEN = {"ceil_mode": "the windows come out even"}


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


CASES = [*convolutions(), *pools(), *products()]
