"""What a parameter's axis is to the operator that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import fx

from fxc.compiler.macs import CONVOLUTIONS, LINEAR, TRANSPOSED

aten = torch.ops.aten

Role: TypeAlias = Literal["out", "in", "bias", "scale", "shift", "mean", "var", "other"]

_WEIGHT_AXES: dict[object, tuple[Role, Role]] = {
    **dict.fromkeys((*CONVOLUTIONS, *LINEAR), ("out", "in")),
    **dict.fromkeys(TRANSPOSED, ("in", "out")),
}
_NORMS: dict[object, tuple[Role, ...]] = {
    aten.batch_norm.default: ("other", "scale", "shift", "mean", "var"),
    aten.instance_norm.default: ("other", "scale", "shift", "mean", "var"),
    aten.group_norm.default: ("other", "other", "scale", "shift"),
    aten.layer_norm.default: ("other", "other", "scale", "shift"),
    aten.rms_norm.default: ("other", "other", "scale"),
}


@dataclass(frozen=True)
class Use:
    """One operator that reads a tensor: the node, and what the tensor's axis is to it."""

    node: fx.Node
    role: Role


def uses(tensor: fx.Node, axis: int) -> Iterator[Use]:
    """Every use of axis ``axis`` of a ``get_attr`` node."""
    for user in tensor.users:
        for place, argument in enumerate(user.args):
            if argument is tensor:
                yield Use(user, _role(user.target, place, axis))


def _role(target: object, place: int, axis: int) -> Role:
    if target in _WEIGHT_AXES:
        if place == 1:
            return _WEIGHT_AXES[target][axis] if axis < 2 else "other"
        return "bias" if place == 2 else "other"
    roles = _NORMS.get(target, ())
    return roles[place] if place < len(roles) else "other"
