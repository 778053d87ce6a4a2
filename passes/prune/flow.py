"""Labels for every dimension of every value of a program, by running one rule per operator over its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.errors import FxcError, PassError
from fxc.compiler.origin import op_name, where
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Atoms, Dims, Flags, Ints, Label

Walk = TypeVar("Walk")
Found = TypeVar("Found")

STAND_IN = 1009
"""A symbolic size counts as this prime, so that it never looks like a factor of a width."""


@dataclass(frozen=True)
class Choice:
    """A place where a dimension splits into several factors and any one of them might carry its atoms.

    Attributes:
        key: the node and which of its choices it is.
        picked, options: which option was taken, of how many.
        atoms: the tied atoms that result.
    """

    key: tuple[fx.Node, int]
    picked: int
    options: int
    atoms: Ints


class Flow:
    """One walk over a program's graph.

    Attributes:
        atoms: all that the rules found.
        dims: the labels of every value so far.
        choices: the choices that were made.
        heads: where attention splits channels into heads, whole heads go rather than parts of each.
    """

    def __init__(
        self, program: Program, picks: Mapping[tuple[fx.Node, int], int] | None = None, *, heads: bool = False
    ):
        self.program, self.heads = program, heads
        self.atoms = Atoms()
        self.dims: dict[fx.Node, Dims] = {}
        self.choices: list[Choice] = []
        self._picks = dict(picks or {})
        self._tensors: dict[int, Dims] = {}
        self._sizes: dict[Any, int] = {}

    def run(self, rules: Mapping[Any, Rule]) -> Flow:
        """Label every node.

        Raises:
            PassError: a rule gave labels that do not fit the value.
        """
        for node in self.program.graph.nodes:
            if node.op == "output":
                for value in node.all_input_nodes:
                    self.atoms.pin(self.of(value), "is the model's output", value)
            else:
                self.dims[node] = self._checked(node, self._label(node, rules))
        return self

    def of(self, node: fx.Node) -> Dims:
        """The labels of a value."""
        return self.dims[node]

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a value, with a prime for a symbolic size."""
        return tuple(map(self.size, node.meta["val"].shape))

    def size(self, size: Any) -> int:
        """A size, with a prime for each symbol in it."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression not in self._sizes:
            self._sizes[expression] = int(
                expression.subs(dict.fromkeys(expression.free_symbols, STAND_IN))
                if not expression.is_symbol
                else STAND_IN
            )
        return self._sizes[expression]

    def pick(self, node: fx.Node, place: int, options: int) -> int:
        """Which of several options to take at ``node``."""
        return min(self._picks.get((node, place), 0), options - 1)

    def chose(self, node: fx.Node, place: int, options: int, atoms: Ints) -> None:
        """Record a choice, so that another option is tried if this one leads nowhere."""
        self.choices.append(Choice((node, place), self.pick(node, place, options), options, atoms))

    def _label(self, node: fx.Node, rules: Mapping[Any, Rule]) -> Dims:
        if node.op == "placeholder":
            return (None,) * node.meta["val"].dim()
        if node.op == "get_attr":
            return self._parameter(node)
        rule = rules.get(node.target) or _general(node.target, rules)
        if rule is None:
            return unknown(self, node)
        return asked(rule.label, self, node)

    def _parameter(self, node: fx.Node) -> Dims:
        """Atoms of a tensor; the same ones wherever it is read, under whatever name."""
        tensor = self.program.tensor(str(node.target))
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = tuple(map(self.atoms.fresh, tensor.shape))
        return self._tensors[id(tensor)]

    def _checked(self, node: fx.Node, dims: Dims) -> Dims:
        value = node.meta.get("val")
        if isinstance(value, (tuple, list)):
            # Values and their positions have one shape; labels of several shapes are beyond any rule here.
            return dims if len({tuple(map(str, v.shape)) for v in value}) == 1 else ()
        if not isinstance(value, Tensor):
            return ()
        shape = self.shape(node)
        fits = len(dims) == len(shape) and all(d is None or len(d) == s for d, s in zip(dims, shape))
        if not fits:
            found = [None if d is None else len(d) for d in dims]
            raise PassError(
                f"the pruning rule of {op_name(node)} gives labels {found} to a value {list(shape)}",
                where=where(node),
            )
        return dims


Changes: TypeAlias = "dict[int | str, Any]"
"""Arguments that change, by position or by name."""


@dataclass(frozen=True)
class Rule:
    """What pruning knows about one operator.

    Attributes:
        label: from a flow and a node to the labels of the node's value; ties, pins and marks atoms on the way.
        rewrite: from a cut and a node to the literal arguments that change. ``None`` if none ever does.
    """

    label: Callable[[Flow, fx.Node], Dims]
    rewrite: Callable[[Cut, fx.Node], Changes] | None = None


class Cut:
    """Which indices stay, for the functions that rewrite shape arguments.

    Args:
        flow: the labels.
        keep: whether each atom stays, ``bool [atoms]``.
    """

    def __init__(self, flow: Flow, keep: Flags):
        self.flow, self.keep = flow, keep

    def kept(self, label: Ints) -> Flags:
        """Which indices of a labelled dimension stay, ``bool [size]``."""
        return self.keep[label]

    def count(self, label: Label, size: int) -> int:
        """How many indices of a dimension of ``size`` stay."""
        return size if label is None else int(np.count_nonzero(self.keep[label]))

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a value afterwards, with a prime for a symbolic size."""
        return tuple(map(self.count, self.flow.of(node), self.flow.shape(node)))

    def shrinks(self, node: fx.Node) -> bool:
        """Whether any dimension of a value gets smaller."""
        return any(label is not None and not self.keep[label].all() for label in self.flow.of(node))


Rules: TypeAlias = Mapping[Any, Rule]


def asked(question: Callable[[Walk, fx.Node], Found], walk: Walk, node: fx.Node) -> Found:
    """What a rule answers about a node.

    Raises:
        PassError: it failed; another package's rule may raise anything, and the user must read whose rule it was.
    """
    try:
        return question(walk, node)
    except FxcError:
        raise
    except Exception as error:
        raise PassError(
            f"the pruning rule of {op_name(node)} failed",
            where=where(node),
            why=f"{type(error).__name__}: {error}",
        ) from error


def unknown(flow: Flow, node: fx.Node) -> Dims:
    """Nothing is known about the operator: whatever it reads must stay as it is."""
    for source in node.all_input_nodes:
        flow.atoms.pin(flow.of(source), f"is read by {op_name(node)}, which has no pruning rule", node)
    return (None,) * _rank(node)


def same(flow: Flow, node: fx.Node) -> Dims:
    """f(x) has the labels of x."""
    return flow.of(tensor_argument(node))


def tensor_argument(node: fx.Node) -> fx.Node:
    """The first argument, which is a node."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def int_argument(node: fx.Node, place: int) -> int:
    """An argument that the schema says is a number."""
    value: Any = node.args[place]
    return int(value)


def list_argument(node: fx.Node, place: int) -> list[Any]:
    """An argument that the schema says is a list."""
    value: Any = node.args[place]
    return list(value)


def operands(args: Any) -> Iterator[fx.Node]:
    """Every node with a tensor value among (possibly nested) arguments, in order."""
    if isinstance(args, fx.Node):
        if isinstance(args.meta.get("val"), Tensor):
            yield args
    elif isinstance(args, (list, tuple)):
        for item in args:
            yield from operands(item)


def _general(target: Any, rules: Rules) -> Rule | None:
    """The rule of a whole class of operators: PyTorch tags those that compute element by element."""
    if torch.Tag.pointwise in getattr(target, "tags", ()):
        return rules.get(torch.Tag.pointwise)
    return None


def _rank(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) else 0


def resized(sizes: Sequence[Any], label: Dims, cut: Cut) -> list[Any]:
    """Literal sizes with the new count where a dimension shrinks; -1 and nodes stay."""
    return [
        cut.count(d, size) if d is not None and isinstance(size, int) and size != -1 else size
        for size, d in zip(sizes, label)
    ]
