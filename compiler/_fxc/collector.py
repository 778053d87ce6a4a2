"""The garbage collector during a compile: it need not walk what was there before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Inside, collections look at objects made inside only.

    PyTorch and its symbolic shapes are millions of objects. A compile makes enough new ones to trigger full collections,
    each of which would walk the old ones for a third of a second and find nothing. Who froze objects himself keeps them so.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
