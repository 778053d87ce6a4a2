"""What a pass did to a graph: nodes added, removed and changed, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxc.tools.dump.facts import Operator, Parameter

REWIRED = ("inputs",)


@dataclass(frozen=True)
class Difference:
    """The difference between two graphs.

    Attributes:
        added: names only in the new graph, in its order.
        removed: names only in the old graph, in its order.
        changed: name to what differs, of ``"operator"``, ``"inputs"``, ``"arguments"``, ``"parameters"`` (another
            tensor, shape or dtype), ``"values"`` (new numbers under the old name) and ``"result"`` (shape or dtype).
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rewired(self) -> tuple[str, ...]:
        """Nodes that only read another producer: neighbours of the work, rather than the work."""
        return tuple(name for name, what in self.changed.items() if what == REWIRED)

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Changed nodes that are more than rewired."""
        return tuple(name for name, what in self.changed.items() if what != REWIRED)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(before: Mapping[str, Operator], after: Mapping[str, Operator]) -> Difference:
    """The difference between two graphs' operators; node names are what ties them together."""
    both = [(old, after[name]) for name, old in before.items() if name in after]
    changed = {old.name: what for old, new in both if (what := _changes(old, new))}
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed={name: changed[name] for name in after if name in changed},
    )


def _changes(old: Operator, new: Operator) -> tuple[str, ...]:
    what = {
        "operator": old.target != new.target,
        "inputs": old.inputs != new.inputs,
        "arguments": old.literals != new.literals,
        "parameters": old.parameters != new.parameters,
        "values": _new_values(old.parameters, new.parameters),
        "result": (old.shape, old.dtype, old.results) != (new.shape, new.dtype, new.results),
    }
    return tuple(name for name, differs in what.items() if differs)


def _new_values(old: tuple[Parameter, ...], new: tuple[Parameter, ...]) -> bool:
    """Whether a parameter of the same path is another tensor; passes share storage of what they leave alone."""
    tensors = {p.path: p.tensor for p in old}
    return any(p.path in tensors and not _same_storage(tensors[p.path], p.tensor) for p in new)


def _same_storage(a: object, b: object) -> bool:
    if a is b or a is None or b is None:
        return a is b
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape  # type: ignore[attr-defined]
