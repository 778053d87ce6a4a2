"""The picture of a graph as plain values: boxes with lines of text, edges, frames; removed nodes where they were."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fxc.tools.dump.diff import REWIRED, Difference
from fxc.tools.dump.facts import Operator, Parameter
from fxc.tools.dump.grouping import Frame, group_by_module

TEXT_COLUMNS = 38
"""A line longer than this is cut in the picture; the tooltip has it whole."""

OPTION_LINES = 2

UNTOLD = ("momentum", "cudnn_enabled", "inplace")
"""Arguments that say nothing about the result; they are in the tooltip."""

INTEGER = ("int8", "uint8", "int4", "uint4", "int16", "uint16")
"""Result types that count as quantized."""


@dataclass(frozen=True)
class Line:
    """One line of a box: its text and its role, ``"op"``, ``"label"``, ``"detail"`` or ``"result"``."""

    text: str
    role: str


@dataclass(frozen=True)
class Box:
    """A node to draw.

    Attributes:
        name: the node.
        state: ``""``, ``"added"``, ``"removed"``, ``"changed"`` or ``"rewired"``.
        kind: ``"input"``, ``"output"`` or ``"call"``.
        quantized: whether it returns integers.
        lines: what stands in it.
        tip: the tooltip, lines joined by newlines.
        frame: the frame it stands in.
    """

    name: str
    state: str
    kind: str
    quantized: bool
    lines: tuple[Line, ...]
    tip: str
    frame: str | None


@dataclass(frozen=True)
class Edge:
    """A tensor on its way: ``state`` is ``"removed"`` for one that only the old graph has."""

    start: str
    end: str
    state: str
    quantized: bool
    tip: str


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn. The edges are acyclic."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    frames: tuple[Frame, ...]


def build_scene(
    after: Mapping[str, Operator],
    before: Mapping[str, Operator] | None = None,
    difference: Difference | None = None,
) -> Scene:
    """The scene of a graph, with what changed since ``before`` if that is given.

    Args:
        after: the graph's operators.
        before: those of the graph it was made from.
        difference: ``compare(before, after)``.
    """
    difference = difference or Difference()
    old = before or {}
    everything = dict(after) | {name: old[name] for name in difference.removed}
    edges = _edges(after, old, difference)
    innermost, frames = group_by_module(
        {name: operator.layers for name, operator in everything.items()}, [(e.start, e.end) for e in edges]
    )
    boxes = tuple(
        _box(operator, difference, old.get(name), innermost[name]) for name, operator in everything.items()
    )
    return Scene(boxes, tuple(edges), tuple(frames))


def _edges(
    after: Mapping[str, Operator], before: Mapping[str, Operator], difference: Difference
) -> list[Edge]:
    """Edges of the graph, and of the removed nodes as far as they close no cycle with them."""
    living = [(a, operator.name) for operator in after.values() for a in dict.fromkeys(operator.inputs)]
    gone = set(difference.removed)
    known = set(after) | gone
    ghosts = [
        (a, operator.name)
        for operator in before.values()
        for a in dict.fromkeys(operator.inputs)
        if {a, operator.name} & gone and {a, operator.name} <= known
    ]
    kept = _without_cycles([*after, *difference.removed], living, ghosts)
    return [_edge(after[a], b, "") for a, b in living] + [
        _edge(before[a], b, "removed") for a, b in ghosts if (a, b) in kept
    ]


def _without_cycles(
    names: list[str], living: list[tuple[str, str]], ghosts: list[tuple[str, str]]
) -> set[tuple[str, str]]:
    """The ghost edges that leave the whole acyclic; a pass can reverse an order that the old graph had."""
    waiting: dict[str, int] = dict.fromkeys(names, 0)
    readers: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    held: dict[str, dict[str, None]] = defaultdict(dict)
    for ghost, edges in ((False, living), (True, ghosts)):
        for a, b in edges:
            waiting[b] += 1
            readers[a].append((b, ghost))
            if ghost:
                held[b][a] = None
    kept = set(ghosts)
    ready = [name for name in names if not waiting[name]]
    done: set[str] = set()
    pending = iter(names)
    while len(done) < len(names):
        if not ready:
            # Every ring has a ghost edge: the living graph is in topological order, so its first unplaced node
            # waits for ghosts only.
            name = next(n for n in pending if n not in done)
            for a in held[name]:
                kept.discard((a, name))
            ready.append(name)
        name = ready.pop()
        if name in done:
            continue
        done.add(name)
        for reader, ghost in readers[name]:
            if ghost and (name, reader) not in kept:
                continue
            if ghost:
                held[reader].pop(name, None)
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    return kept


def _edge(producer: Operator, reader: str, state: str) -> Edge:
    return Edge(
        producer.name,
        reader,
        state,
        producer.dtype in INTEGER,
        f"{producer.label} → {reader}\n{result_text(producer)}",
    )


def _box(operator: Operator, difference: Difference, old: Operator | None, frame: str | None) -> Box:
    changes = difference.changed.get(operator.name, ())
    state = "rewired" if changes == REWIRED else "changed" if changes else ""
    if operator.name in difference.added:
        state = "added"
    if operator.name in difference.removed:
        state = "removed"
    return Box(
        name=operator.name,
        state=state,
        kind=operator.op if operator.op in ("input", "output") else "call",
        quantized=operator.dtype in INTEGER,
        lines=tuple(_lines(operator)),
        tip=_tip(operator, state, changes, old),
        frame=frame,
    )


def _lines(operator: Operator) -> Iterable[Line]:
    yield Line(operator.op, "op")
    if operator.label not in (operator.op, "output"):
        yield Line(cut(operator.label, from_the_left=True), "label")
    options = [f"{name} {text}" for name, text in operator.options if name not in UNTOLD and text != "False"]
    yield from (Line(text, "detail") for text in _wrapped(options))
    for parameter in operator.parameters:
        if parameter.shape.count("×") or parameter.code or len(operator.parameters) == 1:
            yield Line(cut(_parameter_text(parameter)), "detail")
    if result_text(operator):
        yield Line(cut(result_text(operator)), "result")


def _wrapped(words: Sequence[str]) -> list[str]:
    """Words joined by dots in at most ``OPTION_LINES`` lines."""
    lines: list[str] = []
    for i, word in enumerate(words):
        if lines and columns_of(lines[-1]) + 3 + columns_of(word) <= TEXT_COLUMNS:
            lines[-1] += f" · {word}"
        elif len(lines) == OPTION_LINES:
            return [*lines[:-1], cut(" · ".join([lines[-1], *words[i:]]))]
        else:
            lines.append(cut(word))
    return lines


def _parameter_text(parameter: Parameter) -> str:
    return " ".join(t for t in (parameter.argument, parameter.shape, parameter.dtype, parameter.code) if t)


def result_text(operator: Operator) -> str:
    """``"1×64×56×56 float32"``; of several results the first, with their number."""
    more = f" (1 of {operator.results})" if operator.results > 1 else ""
    return f"{operator.shape} {operator.dtype}".strip() + more


def _tip(operator: Operator, state: str, changes: tuple[str, ...], old: Operator | None) -> str:
    rows = [
        f"%{operator.name} = {operator.target}",
        f"layer: {operator.label}",
        *(f"does the work of: {layer}" for layer in operator.layers if layer != operator.label),
        *([f"source: {operator.source}"] if operator.source else []),
        *([f"made by: {operator.made_by}"] if operator.made_by else []),
        *(f"{name}: {text}" for name, text in operator.options),
        *(f"{_parameter_text(p)}  ({p.path})" for p in operator.parameters),
        *([f"result: {result_text(operator)}"] if operator.shape or operator.dtype else []),
    ]
    if changes and old is not None:
        rows.append(f"{state}: {', '.join(changes)}")
        rows += [f"  {what} before: {_before(old, what)}" for what in changes if _before(old, what)]
    elif state:
        rows.append(f"{state} by this pass")
    return "\n".join(rows)


def _before(old: Operator, what: str) -> str:
    return {
        "operator": old.target,
        "inputs": ", ".join(old.inputs),
        "arguments": ", ".join(f"{name} {text}" for name, text in old.options),
        "parameters": ", ".join(map(_parameter_text, old.parameters)),
        "result": result_text(old),
    }.get(what, "")


def columns_of(text: str) -> int:
    """Width of a text in columns of a fixed-width font; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, *, from_the_left: bool = False) -> str:
    """At most ``TEXT_COLUMNS`` columns of a text, with an ellipsis for the rest; names keep their end."""
    if columns_of(text) <= TEXT_COLUMNS:
        return text
    kept, used = [], 1
    for char in reversed(text) if from_the_left else text:
        used += columns_of(char)
        if used > TEXT_COLUMNS:
            break
        kept.append(char)
    return "…" + "".join(reversed(kept)) if from_the_left else "".join(kept) + "…"
