"""The same for resizing, and for quantizers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.backends.coreml import loops
from tests.backends.coreml.cases import rand
from tests.backends.coreml.made import Array, Case


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


CASES = [*resizes(), *quantizers()]
