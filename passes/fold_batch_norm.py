"""``fold_batch_norm``: a batch norm becomes part of the convolution or linear layer beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import FoldedNorm, Program
from fxc.compiler.rule import Rule, apply_rules, producer, sole_user
from fxc.passes.batch_norm import Affine, batch_norm_affine, folded_norm, why_not_affine
from fxc.passes.values import is_constant, is_floating, rank

aten = torch.ops.aten

CONVS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
LINEAR = aten.linear.default
LAYERS = (*CONVS, *TRANSPOSED, LINEAR)


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold evaluated batch norms into the weights beside them.

    Before::

        %conv = conv2d(%x, conv.weight, None, …)
        %bn = batch_norm(%conv, bn.weight, bn.bias, bn.running_mean, bn.running_var, False, 0.1, 1e-05, False)

    After::

        %conv = conv2d(%x, conv.weight, conv.bias, …)        # weight * s, bias * s + t

    with ``s = bn.weight / sqrt(running_var + eps)`` and ``t = bn.bias - running_mean * s`` per output channel, computed in
    float64 and rounded once to the weight's dtype. A batch norm *before* a layer folds where that is exact: linear layers, and convolutions that pad nothing
    (a padded zero would have become ``t``). The statistics go to ``Program.folded_norms`` under the layer's label.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """

    name: ClassVar[str] = "fold_batch_norm"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program: Program) -> PassResult:
        """One walk; every batch norm that stays has a note that says why."""
        if not any(node.target is aten.batch_norm.default for node in program.graph.nodes):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        norms: dict[str, FoldedNorm] = {}
        rule = _Fold(norms, readers(editor))
        apply_rules(editor, (rule,))
        notes = tuple(editor.notes)
        if not editor.modified:
            return PassResult(program, modified=False, notes=notes)
        folded = {**program.folded_norms, **norms}
        return PassResult(editor.finish(folded_norms=folded), modified=True, notes=notes)


def readers(editor: Editor) -> Counter[int]:
    """How many uses each tensor of the program has, by :func:`storage`; several names may share one storage."""
    count: Counter[int] = Counter()
    for node in editor.graph.nodes:
        if node.op == "get_attr":
            count[storage(editor.tensor(node))] += len(node.users)
    return count


def storage(tensor: Tensor) -> int:
    """Identity of the tensor's memory; tied weights have the same one under several names."""
    return tensor.data_ptr() or id(tensor)


class _Fold(Rule):
    """batch_norm(conv(x, w, b)) -> conv(x, w * s, b * s + t);  linear(batch_norm(x), w, b) -> linear(x, w * s, b + w @ t)"""

    name = "fold_batch_norm"
    anchors = (aten.batch_norm.default,)

    def __init__(self, norms: dict[str, FoldedNorm], uses: Counter[int]):
        self.norms, self.uses = norms, uses

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """The norm and the layer that may take it; the layer before has the first say."""
        before = producer(node.args[0], *LAYERS)
        after = producer(sole_user(node), *LAYERS)
        if before is not None and (after is None or self._before(node, before, editor) is None):
            return node, before, True
        if after is not None and after.args[0] is node:
            return node, after, False
        return None if before is None else (node, before, True)

    def check(self, match: Any, editor: Editor) -> str | None:
        """Why the layer must not take the norm."""
        node, layer, is_before = match
        return self._before(node, layer, editor) if is_before else self._after(node, layer, editor)

    def _before(self, node: fx.Node, layer: fx.Node, editor: Editor) -> str | None:
        if len(layer.users) > 1:
            return f"{label_of(layer)} has {len(layer.users)} readers, the batch norm is one of them"
        if rank(node) != rank(layer.args[1]):
            return f"the batch norm's channels are not the output channels of {label_of(layer)}"
        return self._common(node, layer, editor)

    def _after(self, node: fx.Node, layer: fx.Node, editor: Editor) -> str | None:
        reason = self._common(node, layer, editor)
        if reason is not None:
            return reason
        if rank(node) != rank(layer.args[1]):
            return f"the batch norm's channels are not the input channels of {label_of(layer)}"
        shift = batch_norm_affine(node, editor).shift
        if layer.target in TRANSPOSED and shift.any():
            return f"{label_of(layer)} is transposed: at its borders fewer products carry the shift"
        if layer.target in CONVS and any(layer.args[4]) and shift.any():
            return f"{label_of(layer)} pads with zeros, which the batch norm's shift would not reach"
        return None

    def _common(self, node: fx.Node, layer: fx.Node, editor: Editor) -> str | None:
        weight, bias = layer.args[1:3]
        if not is_constant(weight) or not (bias is None or is_constant(bias)):
            return f"the weight or bias of {label_of(layer)} is computed by the graph"
        if not is_floating(weight):
            return f"the weight of {label_of(layer)} is not floating point"
        if self.uses[storage(editor.tensor(weight))] > 1:
            return f"the weight of {label_of(layer)} ({weight.target}) is shared with another layer"
        return why_not_affine(node)

    def rewrite(self, match: Any, editor: Editor) -> None:
        """New weight and bias for the layer; the norm's readers read the layer, or the layer reads the norm's input."""
        node, layer, is_before = match
        affine = batch_norm_affine(node, editor)
        weight, bias = _tensors(layer, editor)
        if is_before:
            self._set(layer, *_into_output(layer, weight, bias, affine), editor)
        else:
            self._set(layer, *_into_input(layer, weight, bias, affine), editor)
        if is_before:
            self.norms[label_of(layer)] = folded_norm(node, editor)
            editor.replace(node, layer)
        else:
            layer.update_arg(0, node.args[0])
            editor.erase(node)
        editor.absorb(layer, node)

    def _set(self, layer: fx.Node, weight: Tensor, bias: Tensor, editor: Editor) -> None:
        dtype = editor.tensor(layer.args[1]).dtype
        editor.set_tensor(layer.args[1], weight.to(dtype))
        old, bias = layer.args[2], bias.to(dtype)
        if old is not None and self.uses[storage(editor.tensor(old))] <= 1:
            editor.set_tensor(old, bias)
            return
        with editor.before(layer):
            layer.update_arg(2, editor.constant(bias, f"{label_of(layer)}.bias", origins=(layer,)))


def _tensors(layer: fx.Node, editor: Editor) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.args[1:3]
    exact = torch.promote_types(editor.tensor(weight).dtype, torch.float32)
    # The weight is most of the bytes and takes one rounding more; the bias is small and a sum.
    return (
        editor.tensor(weight).detach().to(exact),
        None if bias is None else editor.tensor(bias).detach().double(),
    )


def _into_output(
    layer: fx.Node, weight: Tensor, bias: Tensor | None, affine: Affine
) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``affine(layer(x))``; ``affine`` has one entry per output channel."""
    new_bias = affine.shift if bias is None else bias * affine.scale + affine.shift
    scale = affine.scale.to(weight.dtype)
    if layer.target not in TRANSPOSED:
        return weight * scale.reshape(-1, *[1] * (weight.dim() - 1)), new_bias
    # [in, out / groups, …]: the rows of group g make output channels g * out / groups and on.
    grouped = weight.reshape(layer.args[6], -1, *weight.shape[1:])
    scale = scale.reshape(layer.args[6], 1, -1, *[1] * (weight.dim() - 2))
    return (grouped * scale).reshape(weight.shape), new_bias


def _into_input(layer: fx.Node, weight: Tensor, bias: Tensor | None, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``layer(affine(x))``; ``affine`` has one entry per input channel.

    A shift that is not zero is only given for layers in which every output sums over all taps.
    """
    scale = affine.scale.to(weight.dtype)
    if layer.target in TRANSPOSED:
        scaled = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        outputs = weight.shape[1] * layer.args[6]
        return scaled, weight.new_zeros(outputs) if bias is None else bias
    groups = layer.args[6] if layer.target in CONVS else 1
    # [out, in / groups, …]: the rows of group g read input channels g * in / groups and on.
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    per_input = (groups, 1, -1, *[1] * (weight.dim() - 2))
    taps = (grouped * affine.shift.reshape(per_input)).reshape(weight.shape[0], -1)
    scaled = (grouped * scale.reshape(per_input)).reshape(weight.shape)
    return scaled, taps.sum(1) if bias is None else bias + taps.sum(1)
