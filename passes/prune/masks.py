"""Masks that stand in the graph: ``weight -> weight * mask``. No optimizer can revive what they hide, and they come off."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from fxc.compiler.editor import Editor
from fxc.compiler.origin import origin_of
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Flags
from fxc.passes.prune.groups import Structure

MASK = "mask"
"""What made the nodes, as their origin tells."""

_NOT_HIDDEN = ("mean", "var")
"""Statistics of a batch norm: its scale and shift are hidden, so that nothing of them is seen."""

aten = torch.ops.aten


def with_masks(program: Program, masks: Mapping[str, Tensor]) -> Program:
    """The program with each named tensor multiplied by its mask where it is read; its parameters are its own.

    The gradient of a hidden weight is zero, and what weight decay makes of it is hidden too.

    Args:
        program: left as it is, even if the result is trained.
        masks: by the path of a tensor, of its shape or broadcast to it; 0 hides.
    """
    editor = Editor(program, MASK)
    _own(editor)
    for node in list(editor.graph.nodes):
        if node.op == "get_attr" and str(node.target) in masks:
            _hide(editor, node, masks[str(node.target)])
    return editor.finish()


def without_masks(program: Program) -> Program:
    """The program with the hidden weights at zero and the masks gone: what is left to compile after fine-tuning."""
    editor = Editor(program, MASK)
    for node in list(editor.graph.nodes):
        if is_mask(node):
            source, mask = node.args
            if editor.tensor(source) is program.tensor(str(source.target)):
                editor.set_tensor(source, _like(editor.tensor(source), editor.tensor(mask)))
            editor.replace(node, source)
    return editor.finish()


def is_mask(node: fx.Node) -> bool:
    """Whether the node hides weights."""
    return node.target is aten.mul.Tensor and origin_of(node).made_by == MASK


def _own(editor: Editor) -> None:
    """Copies of all tensors, shared ones once."""
    made: dict[int, Tensor] = {}
    for node in editor.graph.nodes:
        if node.op == "get_attr":
            tensor = editor.program.tensor(str(node.target))
            if id(tensor) not in made:
                made[id(tensor)] = _like(tensor, None)
            editor.set_tensor(node, made[id(tensor)])


def _like(tensor: Tensor, mask: Tensor | None) -> Tensor:
    values = tensor.detach().clone() if mask is None else tensor.detach() * mask
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


def _hide(editor: Editor, node: fx.Node, mask: Tensor) -> None:
    readers = list(node.users)
    with editor.after(node):
        values = editor.constant(mask.to(editor.tensor(node).dtype), f"{node.target}.mask", origins=(node,))
    with editor.after(values):
        hidden = editor.call(aten.mul.Tensor, (node, values), origins=(node,), suffix=".masked")
    for reader in readers:
        reader.replace_input_with(node, hidden)


def masks_of(structure: Structure, keep: Flags) -> dict[str, Tensor]:
    """For each tensor that would shrink ones and zeros, by every path under which it is read."""
    masks: dict[str, Tensor] = {}
    for slot in structure.slots:
        stays = keep[slot.atoms]
        if stays.all() or slot.plays(*_NOT_HIDDEN):
            continue
        tensor = structure.program.tensor(slot.target)
        shape = [-1 if axis == slot.axis else 1 for axis in range(tensor.dim())]
        own = torch.from_numpy(stays).to(tensor.device).reshape(shape)
        masks[slot.target] = masks[slot.target] & own if slot.target in masks else own
    same = {id(structure.program.tensor(target)): values for target, values in masks.items()}
    nodes = (n for n in structure.program.graph.nodes if n.op == "get_attr")
    found = {str(n.target): same.get(id(structure.program.tensor(str(n.target)))) for n in nodes}
    return {target: values for target, values in found.items() if values is not None}
