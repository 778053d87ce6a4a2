"""The same for what chooses by position, and what makes tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.backends.coreml.cases import ints, rand
from tests.backends.coreml.made import Array, Case


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


CASES = [*choices(), *creations()]
