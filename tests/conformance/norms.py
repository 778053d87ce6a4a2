"""Which batch norms of a captured model can be folded, judged by its graph alone, and which of them were.

Written apart from the pass that folds: a batch norm behind a layer goes into it where nothing else reads the layer; one in
front of a layer goes into it where the layer is its only reader and adds no padding, whose zeros the shift would not reach.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxc.compiler.origin import label_of
from fxc.compiler.program import Program

aten = torch.ops.aten

_CONV = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default}
_TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}
_LAYERS = _CONV | _TRANSPOSED | {aten.linear.default}


@dataclass(frozen=True)
class Norms:
    """The batch norms of one model.

    Attributes:
        total: in the captured graph.
        foldable: those that a layer beside them can take.
        folded: those that are gone from the optimized graph.
        kept_foldable: labels of foldable ones that are still there, as themselves or as a scale and a shift; a failure.
        reasons: why the others cannot be folded, with how many there are of each.
    """

    total: int
    foldable: int
    folded: int
    kept_foldable: list[str]
    reasons: dict[str, int]


def count_norms(canonical: Program, optimized: Program) -> Norms:
    """Compare a canonical program with its batch norms alive with the optimized one."""
    nodes = [n for n in canonical.graph.nodes if n.target is aten.batch_norm.default]
    readers = weight_readers(canonical)
    reasons = {label_of(n): why_not_foldable(n, readers) for n in nodes}
    left = {label_of(n) for n in optimized.graph.nodes if n.op == "call_function"} & set(reasons)
    return Norms(
        total=len(nodes),
        foldable=sum(reason is None for reason in reasons.values()),
        folded=len(nodes) - len(left),
        kept_foldable=sorted(label for label in left if reasons[label] is None),
        reasons=dict(Counter(reason for reason in reasons.values() if reason is not None).most_common()),
    )


def weight_readers(program: Program) -> Counter[str]:
    """How many uses the memory behind each ``get_attr`` has, by the attribute's name; tied weights share theirs."""
    attributes = [n for n in program.graph.nodes if n.op == "get_attr"]
    memory = {str(n.target): program.tensor(str(n.target)).data_ptr() for n in attributes}
    uses: Counter[int] = Counter()
    for node in attributes:
        uses[memory[str(node.target)]] += len(node.users)
    return Counter({name: uses[place] for name, place in memory.items()})


def why_not_foldable(norm: fx.Node, readers: Counter[str]) -> str | None:
    """A short reason that is the same for all batch norms in the same place, or ``None`` if a layer can take it."""
    if norm.args[5] is not False:
        return "evaluated in training mode"
    before, after = norm.args[0], list(norm.users)
    assert isinstance(before, fx.Node)
    if _takes(before, readers) and len(before.users) == 1:
        return None
    if len(after) == 1 and _takes(after[0], readers) and after[0].args[0] is norm:
        if after[0].target not in _TRANSPOSED and not _pads(after[0]):
            return None
        return f"behind {_name(before)}, in front of a padding {_name(after[0])}"
    return f"behind {_name(before)}, in front of {' and '.join(sorted({_name(r) for r in after}))}"


def _takes(node: fx.Node, readers: Counter[str]) -> bool:
    weight = node.args[1] if node.target in _LAYERS else None
    return isinstance(weight, fx.Node) and weight.op == "get_attr" and readers[str(weight.target)] == 1


def _pads(layer: fx.Node) -> bool:
    padding: Any = layer.args[4] if layer.target in _CONV else ()
    return any(padding)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.op)).split(".")[0]
