"""Half of a net's work goes, and two epochs bring its accuracy back; then int8."""

from __future__ import annotations

import pytest
import torch

from fxc.tools.demo.prune import fine_tune, recovery
from fxc.tools.demo.training import DigitsNet, folds


@pytest.mark.slow
def test_two_epochs_bring_it_back() -> None:
    torch.manual_seed(0)
    fold, model = folds()[0], DigitsNet((16, 32, 64), (1, 1, 1))
    fine_tune(model, fold, epochs=8)
    found = recovery(model, fold, macs=0.5, rounds=1)
    assert found.whole > 94
    assert found.macs[1] <= 0.5 * found.macs[0]
    assert found.pruned < found.whole, "pruning cost nothing, so that recovery proves nothing"
    assert found.trained >= found.whole - 1.0
    assert found.int8 >= found.trained - 1.0
