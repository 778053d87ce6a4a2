"""Conditions and loops in saved programs, against the same in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxc.backends.coreml.run import load
from tests.backends.coreml.made import mil_target, save_program

pytest.importorskip("coremltools")


def test_cond(tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb

    def body(x: Any) -> Any:
        big = mb.greater(x=mb.reduce_sum(x=x, axes=[0], keep_dims=False), y=np.float32(0))
        return mb.cond(
            pred=big,
            _true_fn=lambda: mb.add(x=x, y=np.float32(1)),
            _false_fn=lambda: mb.mul(x=x, y=np.float32(3)),
        )

    program = mb.program(input_specs=[mb.TensorSpec(shape=(3,))], opset_version=mil_target(16))(body)
    runner = load(save_program(program, tmp_path / "m.mlpackage", 16))
    for x in (np.array([1, 2, 3], np.float32), np.array([1, -2, -3], np.float32)):
        np.testing.assert_allclose(runner([x])[0], x + 1 if x.sum() > 0 else 3 * x)


def test_while_loop(tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb

    def body(x: Any) -> Any:
        one = np.float32(1)
        return mb.while_loop(
            _cond=lambda i, y: mb.less(x=mb.reduce_max(x=y, axes=[0], keep_dims=False), y=np.float32(100)),
            _body=lambda i, y: (mb.add(x=i, y=one), mb.add(x=mb.mul(x=y, y=np.float32(2)), y=x)),
            loop_vars=(np.float32(0), x),
        )

    program = mb.program(input_specs=[mb.TensorSpec(shape=(2,))], opset_version=mil_target(16))(body)
    runner = load(save_program(program, tmp_path / "m.mlpackage", 16))
    for x in (np.array([1, 3], np.float32), np.array([40, 2], np.float32), np.array([1, 3], np.float32)):
        count, y = 0, x
        while y.max() < 100:
            count, y = count + 1, 2 * y + x
        rounds, answer = runner([x])
        assert rounds == count
        np.testing.assert_allclose(answer, y)
