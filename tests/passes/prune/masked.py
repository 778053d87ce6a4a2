"""The reference of every pruning test: the original eager model with the removed channels at zero.

Nothing here knows a rule of the product's. It takes the indices that are left of each parameter, writes zeros over all
others in a copy of the model, and lets PyTorch run it. Norms whose statistic covers a pruned axis take it over the kept
channels only; everything else, the scale of attention included, is the original's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Kept = Mapping[str, Mapping[int, Any]]


def masked_output(model: nn.Module, kept: Kept, *inputs: Tensor) -> Any:
    """What ``model`` answers with the other indices of each parameter at zero; the model itself stays as it is."""
    masked = copy.deepcopy(model).eval()
    named = {
        **dict(masked.named_parameters(remove_duplicate=False)),
        **dict(masked.named_buffers(remove_duplicate=False)),
    }
    channels: dict[int, Tensor] = {}
    with torch.no_grad():
        for name, axes in kept.items():
            for axis, indices in axes.items():
                rows = torch.as_tensor(indices)
                if named[name].dim() == 1:
                    channels[id(named[name])] = rows
                if not name.endswith("running_var"):
                    _zero(named[name], axis, rows)
        with _KeptStatistics(channels):
            return masked(*inputs)


def _zero(tensor: Tensor, axis: int, kept: Tensor) -> None:
    gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
    gone[kept] = False
    tensor.index_fill_(axis, gone.nonzero().flatten(), 0)


class _KeptStatistics(TorchFunctionMode):
    """Layer and group norms see the kept channels alone, and answer zero for the others."""

    def __init__(self, channels: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._channels = channels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        words = dict(kwargs or {})
        if func is F.layer_norm or func is F.rms_norm:
            return self._norm(func, args, words, -1)
        if func is F.group_norm:
            return self._norm(func, args, words, 1)
        return func(*args, **words)

    def _norm(self, func: Any, args: Any, words: dict[str, Any], axis: int) -> Any:
        names = ("weight", "eps") if func is F.rms_norm else ("weight", "bias", "eps")
        x, shape = args[:2]
        given = {**dict(zip(names, args[2:])), **words}
        rows = self._channels.get(id(given.get("weight")))
        alone = func is F.group_norm and shape == x.shape[1]
        if rows is None or alone:
            return func(*args, **words)
        small = {k: v[rows] if isinstance(v, Tensor) else v for k, v in given.items()}
        found = func(x.index_select(axis, rows), [len(rows)] if axis == -1 else shape, **small)
        return torch.zeros_like(x).index_copy(axis, rows, found)
