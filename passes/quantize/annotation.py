"""What annotation leaves on the graph: which tensors are quantized, with which spec, for whom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import fx

from fxc.compiler.quant import OpRule, QuantSpec

_KEY = "fxc_quant"


@dataclass(eq=False)
class Quantizer:
    """One scale and zero point to be found; every place that shares it holds the same object.

    Attributes:
        spec: how the tensors are coded.
        tensors: names of the nodes whose values it must cover.
        useful: values outside are all alike to whoever reads the tensor (a HardSwish is 0 below -3): no codes for them.
    """

    spec: QuantSpec
    tensors: list[str] = field(default_factory=list)
    useful: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class NodeQuant:
    """Annotation of one node.

    Attributes:
        rule: the target's rule that applied, ``None`` for a node that only carries quantizers for its readers.
        inputs: index into ``node.all_input_nodes`` to the quantizer this node wants on that edge.
        output: quantizer of the node's value, for every reader.
        weight: spec of the constant weight (argument 1), ``None`` if there is none.
        prefers_sharing: inputs, and with a rule that shares all the output too, would like one scale (concat); decided
            when the ranges are known.
    """

    rule: OpRule | None = None
    inputs: dict[int, Quantizer] = field(default_factory=dict)
    output: Quantizer | None = None
    weight: QuantSpec | None = None
    prefers_sharing: bool = False


def quant_of(node: fx.Node) -> NodeQuant | None:
    """The node's annotation."""
    found = node.meta.get(_KEY)
    return found if isinstance(found, NodeQuant) else None


def set_quant(node: fx.Node, annotation: NodeQuant) -> None:
    """Annotate ``node``."""
    node.meta[_KEY] = annotation


def clear_quant(node: fx.Node) -> None:
    """Forget the annotation, once it is written into the graph."""
    node.meta.pop(_KEY, None)


def quantizers(graph: fx.Graph) -> Iterator[Quantizer]:
    """Every quantizer in the graph, once, in graph order."""
    seen: set[int] = set()
    for node in graph.nodes:
        annotation = quant_of(node)
        if annotation is None:
            continue
        for quantizer in (*annotation.inputs.values(), annotation.output):
            if quantizer is not None and id(quantizer) not in seen:
                seen.add(id(quantizer))
                yield quantizer
