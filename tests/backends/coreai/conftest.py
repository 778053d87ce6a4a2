"""The tests in this folder need Apple's packages, in the versions that the room was made for."""

from __future__ import annotations

import pytest

from fxc.backends.coreai.toolchain import PINNED, installed


@pytest.fixture(scope="session")
def core_ai() -> None:
    """Skips where Core AI is not installed, or is another version."""
    if installed() != PINNED:
        pytest.skip(f"needs fxc[coreai], {PINNED}")
