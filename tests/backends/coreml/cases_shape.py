"""The same for what moves values."""

from __future__ import annotations

import numpy as np

from tests.backends.coreml.cases import rand
from tests.backends.coreml.made import Array, Case

_UNFILLED = {"constant_val": "is read for constant only"}


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


CASES = [*shapes()]
