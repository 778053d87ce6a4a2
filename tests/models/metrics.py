"""Distances between outputs. A vanishing output is an error here: against zeros every comparison passes or none means anything."""

import math
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

VANISHING_RMS = 1e-6


class VanishingOutput(AssertionError):
    """The output is numerically zero, so a comparison with it proves nothing."""


def flat(output: Any) -> torch.Tensor:
    """All tensors or arrays of a nested output as one float64 vector on the CPU, in pytree order.

    Raises:
        AssertionError: the output holds no tensor, or a NaN or an infinity.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, (torch.Tensor, np.ndarray))]
    assert leaves, f"no tensor in an output of type {type(output).__name__}"
    parts = [torch.as_tensor(leaf).detach().to("cpu", torch.float64).reshape(-1) for leaf in leaves]
    vector = torch.cat(parts)
    assert bool(torch.isfinite(vector).all()), "the output holds NaN or infinity"
    return vector


def assert_not_vanishing(output: Any) -> None:
    """Raise `VanishingOutput` where the root mean square over all of `output` is below `VANISHING_RMS`."""
    vector = flat(output)
    rms = float(vector.square().mean().sqrt()) if vector.numel() else 0.0
    if rms < VANISHING_RMS:
        raise VanishingOutput(f"the output vanishes: rms {rms:.3g} over {vector.numel()} values")


def _pair(a: Any, b: Any) -> tuple[torch.Tensor, torch.Tensor]:
    shapes = [[tuple(leaf.shape) for leaf in pytree.tree_leaves(x) if hasattr(leaf, "shape")] for x in (a, b)]
    assert shapes[0] == shapes[1], f"the outputs differ in shape: {shapes[0]} against {shapes[1]}"
    assert_not_vanishing(a)
    assert_not_vanishing(b)
    return flat(a), flat(b)


def rel_l2(a: Any, b: Any) -> float:
    """‖a−b‖₂ / ‖b‖₂ over all tensors of two outputs of the same structure; `b` is the reference.

    Raises:
        VanishingOutput: either output is numerically zero.
        AssertionError: the shapes differ, or a value is not finite.
    """
    got, reference = _pair(a, b)
    return float((got - reference).norm() / reference.norm())


def rel_max(a: Any, b: Any) -> float:
    """max|a−b| / max|b|; `b` is the reference. Raises as `rel_l2` does."""
    got, reference = _pair(a, b)
    return float((got - reference).abs().max() / reference.abs().max())


def sqnr_db(reference: Any, x: Any) -> float:
    """10·log10(‖reference‖² / ‖reference−x‖²) in dB, infinite where both are equal. Raises as `rel_l2` does."""
    error = rel_l2(x, reference)
    return math.inf if error == 0.0 else -20.0 * math.log10(error)
