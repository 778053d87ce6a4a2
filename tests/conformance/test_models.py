"""The fourteen models end to end: float equality, both int8 targets, every layer.

At a low resolution, so that it fits ``make test``; ``make spine`` measures the same at 224 and rewrites the table.
"""

from __future__ import annotations

import pytest

from tests.conformance.spine import Row, measure
from tests.models.zoo import NAMES, PURE_CONV

RESOLUTION = {"vit_b_16": 96, "swin_t": 96, "yolo": 128, "squeezenet1_1": 96, "googlenet": 96}
COVERAGE_PURE, COVERAGE = 0.99, 0.90


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_model(name: str) -> None:
    row = measure(name, RESOLUTION.get(name, 96))
    assert row.error_l2 <= 1e-4
    assert row.error_max <= 1e-4
    for target, result in row.targets.items():
        assert result.file_db >= result.graph_db - 1.0, target
        assert result.coverage >= (COVERAGE_PURE if name in PURE_CONV else COVERAGE), target
    assert_layers(row)


def assert_layers(row: Row) -> None:
    assert row.layers > 10
    assert row.worst <= 1
    assert row.flips < 0.01
