"""Annotate: attach the target's quantization scheme, and the user's wishes, to the tensors of a program.

Three walks. Forward: which operators could run on integers, and which outputs are integer by nature. Backward: which
of the followers (pools, reshapes, joins) are worth it, because an integer operator reads their result. Forward again:
hand out quantizers, one object per shared scale.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from torch import fx

from fxc.compiler.config import LayerConfig, QuantConfig, tuned
from fxc.compiler.editor import Editor
from fxc.compiler.errors import PassError, UsageError
from fxc.compiler.macs import TRANSPOSED, WEIGHTED
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.quant import OpRule, QuantScheme, QuantSpec
from fxc.passes.quantize.annotation import NodeQuant, Quantizer, set_quant
from fxc.passes.quantize.useful import useful_ranges


@dataclass(frozen=True)
class Annotate(Pass):
    """Attach quantization specs to tensors; the graph's operators do not change.

    Options:
        scheme: the target's quantization scheme.
        config: the user's overrides.
    """

    name: ClassVar[str] = "annotate"
    promise: ClassVar[Promise] = EXACT
    ensures: ClassVar[frozenset[str]] = frozenset({"annotated"})
    scheme: QuantScheme = field(default_factory=lambda: QuantScheme("none"))
    config: QuantConfig = field(default_factory=QuantConfig)

    def apply(self, program: Program) -> PassResult:
        """Annotate a copy of the graph.

        Raises:
            UsageError: a pattern of the user's that matches no layer.
        """
        editor = Editor(program, self.name)
        check_patterns(editor.graph, self.config)
        walk = _Walk(editor, self.scheme, self.config)
        walk.candidates()
        walk.demand()
        walk.assign()
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))


def layer_names(node: fx.Node) -> tuple[str, ...]:
    """The names under which a user may mean this node: its label and the layers whose work it does."""
    origin = origin_of(node)
    return (origin.label, *origin.layers)


def check_patterns(graph: fx.Graph, config: QuantConfig) -> None:
    """Every pattern of the user's must name some layer.

    Raises:
        UsageError: with the nearest layer names.
    """
    names = {name for node in graph.nodes if node.op == "call_function" for name in layer_names(node)}
    for pattern in config.patterns():
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3)
            raise UsageError(
                f"no layer matches {pattern!r}",
                fix=f"did you mean {', '.join(sorted(near))}?"
                if near
                else "fxc inspect lists the layer names",
            )


class _Walk:
    def __init__(self, editor: Editor, scheme: QuantScheme, config: QuantConfig):
        self.editor, self.scheme = editor, scheme
        self.nodes = [n for n in editor.graph.nodes if n.op == "call_function"]
        self.useful = useful_ranges(editor.graph)
        self.place = {n: i for i, n in enumerate(self.nodes)}
        self.layer: dict[fx.Node, LayerConfig] = {n: config.for_layer(layer_names(n)) for n in self.nodes}
        self.rule: dict[fx.Node, OpRule] = {}
        self.natural: dict[fx.Node, QuantSpec] = {}
        self.fused: set[fx.Node] = set()
        self.carries: set[fx.Node] = set()
        self.active: set[fx.Node] = set()
        self.output: dict[fx.Node, Quantizer] = {}
        self.edge: dict[tuple[fx.Node, QuantSpec], Quantizer] = {}

    # -- first walk ---------------------------------------------------------------------------------------------

    def candidates(self) -> None:
        for node in self.editor.graph.nodes:
            if node.op == "placeholder" and _is_float(node):
                self.natural[node] = _first_spec(self.scheme)
            elif node.op == "call_function" and node not in self.fused:
                self._candidate(node)

    def _candidate(self, node: fx.Node) -> None:
        rule = self.scheme.rule_for(op_name(node), _rank(node))
        kept = "kept in float by the user" if self.layer[node].keep_float else None
        unfit = self._unfit(node, rule)
        if rule is None or unfit is not None:
            self._say_float(node, kept or unfit or "the target has no rule for it")
            return
        if rule.kind == "carry":
            self._carry(node)
            return
        end = self._chain_end(node, rule)
        if rule.yields:
            # Also of a layer that the user keeps in float: its neighbours are quantized as if it were not.
            self.natural[end] = rule.output or self._out_spec(node, rule)
        if kept is not None:
            self._say_float(node, kept)
            return
        self.rule[node] = rule

    def _carry(self, node: fx.Node) -> None:
        source = node.all_input_nodes[0]
        if source in self.natural:
            self.carries.add(node)
            self.natural[node] = self.natural[source]

    def _unfit(self, node: fx.Node, rule: OpRule | None) -> str | None:
        """Why the target computes ``node`` in float, whatever the user wishes."""
        if not _is_float(node):
            return "not a float tensor"
        if rule is None:
            op = op_name(node)
            return self.scheme.keep_float.get(
                op, f"{op} computes in float on this target; its readers requantize"
            )
        if rule.kind == "mac":
            return _product_reason(node, rule) if _is_product(rule) else _weight_reason(node)
        if rule.kind == "join":
            return self._join_reason(node)
        if rule.kind == "follow":
            return self._follow_reason(node, rule)
        return None

    def _join_reason(self, node: fx.Node) -> str | None:
        operands = node.all_input_nodes
        if any(n.op == "get_attr" for n in operands) or (len(operands) < 2 and op_name(node) != "cat"):
            return "one operand is a constant: a scale and shift stay in float, readers requantize"
        for operand in operands:
            if operand not in self.natural:
                return f"its operand {label_of(operand)} comes out of a float operator"
        return None

    def _follow_reason(self, node: fx.Node, rule: OpRule) -> str | None:
        source = node.all_input_nodes[0]
        if source not in self.natural:
            return f"its input {label_of(source)} is a float tensor"
        if rule.output is not None:
            return None  # the target codes every tensor, whoever reads it
        for reader in source.users:
            if reader is not node and reader.op == "call_function" and self._reads_float(reader):
                return f"{label_of(reader)} needs the same tensor in float"
        return None

    def _reads_float(self, reader: fx.Node) -> bool:
        rule = self.scheme.rule_for(op_name(reader), _rank(reader))
        # A product codes its operands its own way, if at all.
        return (rule is None or _is_product(rule)) and _is_float(reader)

    def _chain_end(self, node: fx.Node, rule: OpRule) -> fx.Node:
        while len(node.users) == 1:
            user = next(iter(node.users))
            if op_name(user) not in rule.fuses or user.args[0] is not node or self.layer[user].keep_float:
                return node
            self.fused.add(user)
            node = user
        return node

    def _out_spec(self, node: fx.Node, rule: OpRule) -> QuantSpec:
        if rule.share:
            return self.natural[node.all_input_nodes[0]]
        return rule.inputs or _first_spec(self.scheme)

    # -- second walk --------------------------------------------------------------------------------------------

    def demand(self) -> None:
        wanted: set[fx.Node] = set()
        for node in reversed(self.nodes):
            rule = self.rule.get(node)
            if rule is None:
                if node in self.carries and node in wanted:
                    wanted.add(node.all_input_nodes[0])
                continue
            end = self._chain_end(node, rule)
            if rule.kind == "mac" or rule.output is not None or end in wanted:
                self.active.add(node)
                if not _is_product(rule):
                    wanted.update(self._data_inputs(node, rule))
            else:
                self._say_float(node, "no integer operator reads its result")

    def _data_inputs(self, node: fx.Node, rule: OpRule) -> list[fx.Node]:
        if rule.weight is not None:
            return [node.all_input_nodes[0]]
        absorbed = self._absorbed(node, rule)
        return [source for source in node.all_input_nodes if _is_float(source) and source is not absorbed]

    def _absorbed(self, node: fx.Node, rule: OpRule) -> fx.Node | None:
        """The operand of a join whose kernel does the join: of several the one that is computed last."""
        operands = [
            n for n in node.all_input_nodes
            if op_name(n) in rule.absorbs and n in self.rule and list(n.users) == [node]
        ]  # fmt: skip
        return max(operands, key=self.place.__getitem__, default=None)

    # -- third walk ---------------------------------------------------------------------------------------------

    def assign(self) -> None:
        for node in self.nodes:
            if node in self.active:
                self._assign(node, self.rule[node])
        for node, quantizer in self.output.items():
            kept = node.meta.get("fxc_quant") or NodeQuant()
            set_quant(node, NodeQuant(kept.rule, kept.inputs, quantizer, kept.weight, kept.prefers_sharing))

    def _assign(self, node: fx.Node, rule: OpRule) -> None:
        inputs = {
            index: self._want(source, node, rule)
            for index, source in enumerate(node.all_input_nodes)
            if source in self._data_inputs(node, rule)
        }
        end = self._chain_end(node, rule)
        if rule.share and rule.kind == "follow":
            self._set_output(end, inputs[0])
        elif rule.output is not None or rule.kind == "join":
            self._output(end, rule.output or self.natural[end], self.layer[node])
        weight = _weight_spec(node, rule)
        sharing = rule.kind == "join" and (rule.share or rule.share_operands)
        set_quant(node, NodeQuant(rule, inputs, None, weight, prefers_sharing=sharing))

    def _want(self, source: fx.Node, reader: fx.Node, rule: OpRule) -> Quantizer:
        if source in self.natural and not _is_product(rule):
            layer = self.layer.get(source, self.layer[reader])
            return self._output(source, self.natural[source], layer)
        spec = rule.inputs_after.get(_maker(source), rule.inputs)
        if spec is None:
            raise PassError(f"the scheme {self.scheme.name} gives no input spec for {op_name(reader)}")
        spec = self._fixed(source, tuned(spec, self.layer[reader]))
        quantizer = self.edge.setdefault((source, spec), Quantizer(spec))
        if source.name not in quantizer.tensors:
            quantizer.tensors.append(source.name)
        return quantizer

    def _output(self, node: fx.Node, spec: QuantSpec, layer: LayerConfig) -> Quantizer:
        if node not in self.output:
            spec = self._fixed(node, tuned(spec, layer))
            self.output[node] = Quantizer(spec, [node.name], self.useful[node])
        return self.output[node]

    def _set_output(self, node: fx.Node, quantizer: Quantizer) -> None:
        known = self.output.get(node)
        if known is not None and known is not quantizer and known.spec.fixed and quantizer.spec.fixed:
            raise PassError(f"two fixed ranges on one tensor: {label_of(node)}")
        self.output[node] = quantizer

    def _fixed(self, node: fx.Node, spec: QuantSpec) -> QuantSpec:
        bounds = self.scheme.fixed_output.get(op_name(node))
        if bounds is None or spec.symmetric or spec.scale_kind == "pow2":
            return spec
        scale = (bounds[1] - bounds[0]) / (spec.qmax - spec.qmin)
        return spec.but(fixed=(scale, round(spec.qmin - bounds[0] / scale)))

    def _say_float(self, node: fx.Node, reason: str) -> None:
        if _is_float(node):
            self.editor.note(reason, kind="float", node=node)


def _rank(node: fx.Node) -> int:
    first = next((n for n in node.all_input_nodes if hasattr(n.meta.get("val"), "dim")), None)
    return first.meta["val"].dim() if first is not None else 0


def _is_float(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.dtype == torch.float32


def _first_spec(scheme: QuantScheme) -> QuantSpec:
    return next((r.inputs for r in scheme.rules if r.inputs is not None), QuantSpec())


def _maker(node: fx.Node) -> str:
    """The operator whose numbers these are: data movement and masks are looked through."""
    while op_name(node) in _HANDS_ON:
        source = next((n for n in node.all_input_nodes if _is_float(n)), None)
        if source is None:
            break
        node = source
    return op_name(node)


_HANDS_ON = (
    "reshape",
    "permute",
    "squeeze",
    "unsqueeze",
    "select",
    "slice",
    "expand",
    "roll",
    "dims",
    "where",
)


def _is_product(rule: OpRule) -> bool:
    return rule.kind == "mac" and rule.weight is None


def _product_reason(node: fx.Node, rule: OpRule) -> str | None:
    """Why a product of two tensors stays in float."""
    operands = node.all_input_nodes
    if any(n.op == "get_attr" for n in operands):
        return "one operand is a constant that is no layer's weight"
    return next((rule.float_after[m] for m in map(_maker, operands) if m in rule.float_after), None)


def _weight_reason(node: fx.Node) -> str | None:
    if node.target not in WEIGHTED:
        return None
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return "its weight is computed at run time"
    return None


def _weight_spec(node: fx.Node, rule: OpRule) -> QuantSpec | None:
    if rule.weight is None or node.target not in WEIGHTED:
        return None
    if rule.weight.axis is None:
        return rule.weight
    return rule.weight.but(axis=1 if node.target in TRANSPOSED else 0)
