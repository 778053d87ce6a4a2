"""coremltools collects garbage at each conversion; what is there before is frozen, so that this does not take a second."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fxc.backends.coreml.toolchain import coremltools, installed


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> Iterator[None]:
    if installed():
        coremltools()
    gc.freeze()
    yield
    gc.unfreeze()
