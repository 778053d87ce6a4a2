"""Insert quantize and dequantize where annotation asked for them, with the scales that calibration found.

conv(x, w) -> relu    ->    dequantize(quantize(x)), dequantize(w_int8): conv -> relu -> quantize -> dequantize
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.errors import CalibrationError
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.compiler.quant import QuantSpec
from fxc.passes.quantize.annotation import NodeQuant, Quantizer, clear_quant, quant_of
from fxc.passes.quantize.observers import observe
from fxc.passes.quantize.qparams import QParams, qparams
from fxc.passes.quantize.statistics import Statistics, TensorStats
from fxc.passes.quantize.weights import place_weight


@dataclass(frozen=True)
class InsertQDQ(Pass):
    """Write an annotated program's quantization into its graph.

    Options:
        share_ratio: operands of a concat keep scales of their own where their ranges differ by more than this,
        mix_signs: or, unless this is set, where some are non-negative and others signed.
    """

    name: ClassVar[str] = "insert_qdq"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"annotated"})
    ensures: ClassVar[frozenset[str]] = frozenset({"quantized"})
    destroys: ClassVar[frozenset[str]] = frozenset({"annotated"})
    share_ratio: float = 4.0
    mix_signs: bool = True
    statistics: Statistics = field(default_factory=Statistics, compare=False)

    def apply(self, program: Program) -> PassResult:
        """Insert Q/DQ; weights and biases become integers.

        Raises:
            CalibrationError: a tensor that must be quantized has no statistics.
        """
        editor = Editor(program, self.name)
        ranges = _Ranges(self.statistics, self.share_ratio, self.mix_signs)
        ranges.share(editor)
        insert = _Insert(editor, ranges)
        for node in list(editor.graph.nodes):
            annotation = quant_of(node)
            if annotation is not None:
                insert.node(node, annotation)
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))


class _Ranges:
    """Statistics of each quantizer, after deciding which concats share."""

    def __init__(self, statistics: Statistics, ratio: float, mix_signs: bool):
        self.statistics, self.ratio, self.mix_signs = statistics, ratio, mix_signs
        self.parent: dict[Quantizer, Quantizer] = {}
        self.known: dict[Quantizer, TensorStats] = {}
        self.members: dict[Quantizer, list[Quantizer]] = {}
        self.found: dict[tuple[Quantizer, QuantSpec], QParams] = {}

    def root(self, quantizer: Quantizer) -> Quantizer:
        while (up := self.parent.get(quantizer)) is not None:
            quantizer = up
        return quantizer

    def stats(self, quantizer: Quantizer) -> TensorStats:
        root = self.root(quantizer)
        if root not in self.known:
            self.known[root] = self._merged(root.tensors)
        return self.known[root]

    def _merged(self, names: list[str]) -> TensorStats:
        merged = self._of(names[0])
        for name in names[1:]:
            merged = merged.merged(self._of(name))
        return merged

    def _of(self, name: str) -> TensorStats:
        stats = self.statistics.tensors.get(name)
        if stats is None or not stats.batches:
            raise CalibrationError(
                f"no statistics for the tensor {name}", fix="calibrate the annotated program"
            )
        return stats

    def share(self, editor: Editor) -> None:
        for node in editor.graph.nodes:
            annotation = quant_of(node)
            if annotation is None or not annotation.prefers_sharing:
                continue
            operands = list(annotation.inputs.values())
            if annotation.rule is not None and annotation.rule.share_operands:
                self._join(operands, self._group(operands))
            elif annotation.output is not None:
                self._share_one(editor, node, [*operands, annotation.output])

    def _share_one(self, editor: Editor, node: fx.Node, members: list[Quantizer]) -> None:
        group = self._group(members)
        apart = self._apart(members, group)
        if apart is not None:
            editor.note(f"operands keep their own scales: {apart}", node=node)
            return
        self._join(members, group)

    def _group(self, members: list[Quantizer]) -> list[Quantizer]:
        return [g for root in dict.fromkeys(map(self.root, members)) for g in self._members(root)]

    def _join(self, members: list[Quantizer], group: list[Quantizer]) -> None:
        top = self.root(members[-1])
        for root in dict.fromkeys(map(self.root, members)):
            if root is not top:
                self.known[top] = self.stats(root).merged(self.stats(top))
                self.parent[root] = top
        self.members[top] = group

    def _apart(self, members: list[Quantizer], group: list[Quantizer]) -> str | None:
        """Why these tensors must not share one scale, or ``None``."""
        if any(m.spec.fixed for m in members):
            return "one has a fixed range"
        # Each tensor's own range counts, not what earlier concats made of it; a tensor of zeros suits any scale.
        own = [stats for g in group if _span(stats := self._merged(g.tensors)) > 0.0]
        sizes = [_span(stats) for stats in own]
        if sizes and max(sizes) > self.ratio * min(sizes):
            return f"ranges differ by {max(sizes) / min(sizes):.1f}x"
        if not self.mix_signs and any(s.low >= 0.0 for s in own) and any(s.low < 0.0 for s in own):
            return "some are non-negative, others signed"
        return None

    def _members(self, root: Quantizer) -> list[Quantizer]:
        return self.members.get(root, [root])

    def _useful(self, root: Quantizer) -> tuple[float, float]:
        ranges = [member.useful for member in self._members(root)]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def qparams(self, quantizer: Quantizer) -> QParams:
        root = self.root(quantizer)
        spec = root.spec
        if (root, spec) not in self.found:
            if spec.fixed is not None:
                self.found[root, spec] = qparams(0.0, 0.0, spec)
            else:
                low, high = observe(self.stats(root), spec)
                smallest, largest = self._useful(root)
                self.found[root, spec] = qparams(max(low, smallest), min(high, largest), spec)
        return self.found[root, spec]


def _span(stats: TensorStats) -> float:
    return max(stats.high, 0.0) - min(stats.low, 0.0)


class _Insert:
    def __init__(self, editor: Editor, ranges: _Ranges):
        self.editor, self.ranges = editor, ranges
        self.pairs: dict[tuple[fx.Node, Quantizer], fx.Node] = {}
        self.count: Counter[fx.Node] = Counter()

    def node(self, node: fx.Node, annotation: NodeQuant) -> None:
        wanted = list(node.all_input_nodes)
        for index, quantizer in annotation.inputs.items():
            reads = wanted[index]
            # A source whose value is quantized for every reader has been rewired already: it is read through its pair.
            if reads.target is not DEQUANTIZE_TENSOR:
                node.replace_input_with(reads, self._pair(reads, quantizer))
        if annotation.weight is not None and annotation.rule is not None:
            activation = self.ranges.qparams(annotation.inputs[0])
            place_weight(
                self.editor, node, annotation.weight, activation, int32_bias=annotation.rule.bias == "int32"
            )
        if annotation.output is not None:
            self._output(node, annotation.output)
        clear_quant(node)

    def _output(self, node: fx.Node, quantizer: Quantizer) -> None:
        # An input that the model returns as it came stays as it came.
        readers = [r for r in node.users if not (node.op == "placeholder" and r.op == "output")]
        pair = self._pair(node, quantizer)
        for reader in readers:
            reader.replace_input_with(node, pair)

    def _pair(self, node: fx.Node, quantizer: Quantizer) -> fx.Node:
        root = self.ranges.root(quantizer)
        key = (node, root)
        if key not in self.pairs:
            spec, found = root.spec, self.ranges.qparams(quantizer)
            dtype = getattr(torch, spec.dtype)
            # Readers that want different codes make several pairs of one tensor: labels tell them apart.
            number = f"_{self.count[node]}" if self.count[node] else ""
            self.count[node] += 1
            self._say_constant(node, root)
            with self.editor.after(node):
                codes = self.editor.call(
                    QUANTIZE_TENSOR,
                    (node, found.scale, found.zero_point, spec.qmin, spec.qmax, dtype),
                    origins=(node,),
                    suffix=f".quantize{number}",
                    val=self.editor.like(node, dtype),
                )
            with self.editor.after(codes):
                self.pairs[key] = self.editor.call(
                    DEQUANTIZE_TENSOR,
                    (codes, found.scale, found.zero_point),
                    origins=(node,),
                    suffix=f".dequantize{number}",
                    val=node.meta["val"],
                )
        return self.pairs[key]

    def _say_constant(self, node: fx.Node, quantizer: Quantizer) -> None:
        stats = self.ranges.stats(quantizer) if quantizer.spec.fixed is None else None
        if stats is not None and stats.low == stats.high:
            text = f"always {stats.low:g} on the calibration data: its scale says nothing about other inputs"
            self.editor.note(text, kind="warning", node=node)


def quantized_layers(graph: fx.Graph) -> dict[str, fx.Node]:
    """Label to quantize node, for every activation quantizer of a quantized graph."""
    return {label_of(n): n for n in graph.nodes if n.op == "call_function" and n.target is QUANTIZE_TENSOR}
