"""What the end-to-end tests share: small nets captured once, their data, and a comparison of nested results."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import fxc
from fxc.compiler.artifact import Artifact
from fxc.compiler.program import Program
from tests.models.small import Inputs, build_small, small_inputs


@cache
def built(name: str) -> tuple[nn.Module, Inputs]:
    """A small net and its inputs; do not change them."""
    return build_small(name)


@cache
def program(name: str) -> Program:
    """The small net ``name``, captured once for all tests of a process."""
    model, inputs = built(name)
    return fxc.capture(model, inputs)


def data(name: str, count: int = 8) -> list[Inputs]:
    """Calibration data of ``count`` samples in batches of two."""
    return [small_inputs(name, 2, 100 + i) for i in range(count // 2)]


def compiled(name: str = "conv_chain", target: str = "ort-int8", **words: Any) -> Artifact:
    """The small net ``name`` compiled from its program, calibrated on :func:`data`."""
    if "calibration_data" not in words:
        words["calibration_data"] = data(name)
    return fxc.compile(program(name), target, **words)


def same(a: Any, b: Any) -> bool:
    """Whether two nested results have one structure and equal tensors."""
    (x, one), (y, other) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    return one == other and all(torch.equal(p, q) for p, q in zip(x, y))


def sqnr(want: Any, got: Any) -> float:
    """20 log10(‖a‖ / ‖a-b‖) in dB over all tensors of two nested results, the smallest."""
    pairs = zip(pytree.tree_leaves(want), pytree.tree_leaves(got), strict=True)
    return min(float(20 * torch.log10(a.norm() / (a - b).norm().clamp_min(1e-30))) for a, b in pairs)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
