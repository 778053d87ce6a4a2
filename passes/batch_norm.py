"""An evaluated batch norm as numbers: one scale and one shift per channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.program import FoldedNorm
from fxc.passes.values import fixed, is_constant, shape


@dataclass(frozen=True)
class Affine:
    """``y = x * scale + shift``, both float64 ``[channels]``."""

    scale: Tensor
    shift: Tensor


def why_not_affine(node: fx.Node) -> str | None:
    """Why a ``batch_norm`` node is not a fixed scale and shift, or ``None`` if it is one."""
    _x, weight, bias, mean, var, training = node.args[:6]
    if training is not False:
        return "the batch norm is in training mode; call model.eval() before capture"
    if mean is None or var is None:
        return "the batch norm keeps no running statistics, so it normalises by those of the batch"
    if not all(t is None or is_constant(t) for t in (weight, bias, mean, var)):
        return "the batch norm's parameters are computed by the graph"
    return None


def batch_norm_affine(node: fx.Node, editor: Editor) -> Affine:
    """``scale = weight / sqrt(var + eps)``, ``shift = bias - mean * scale`` of an evaluated batch norm."""
    norm = _parameters(node, editor, torch.float64)
    scale = norm.weight / torch.sqrt(norm.var + float(node.args[7]))
    return Affine(scale, norm.bias - norm.mean * scale)


def folded_norm(node: fx.Node, editor: Editor) -> FoldedNorm:
    """The statistics and the affine part of a batch norm, float32 ``[channels]``."""
    return _parameters(node, editor, torch.float32)


def _parameters(node: fx.Node, editor: Editor, dtype: torch.dtype) -> FoldedNorm:
    channels = fixed(shape(node)[1])
    _x, weight, bias, mean, var = node.args[:5]

    def values(source: object, default: float) -> Tensor:
        if isinstance(source, fx.Node):
            return editor.tensor(source).detach().to(dtype)
        return torch.full((channels or 0,), default, dtype=dtype)

    return FoldedNorm(values(mean, 0.0), values(var, 1.0), values(weight, 1.0), values(bias, 0.0))
