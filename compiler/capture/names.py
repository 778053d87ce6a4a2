"""Names and origins: every node gets the label a user reads, the model's own source line, and a name to match."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import torch
from torch import fx

from fxc.compiler.capture.schema import overload
from fxc.compiler.origin import Origin, identifier, op_name, set_origin, unique_label
from fxc.compiler.program import OWN_STATE

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_FRAME = re.compile(
    r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n(?P<code>(?:\s{4,}.*)?)', re.MULTILINE
)
_ROOTS = re.compile(r"^(L\['self'\]|L__self__)\.?")
_SYNTHETIC = "_empty_nn_module_stack_from_metadata_hook"


def scope_of(node: fx.Node) -> str:
    """Dotted path of the innermost module that ran when the node was recorded; ``""`` for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return "" if path == _SYNTHETIC else _ROOTS.sub("", path)


def scopes_of(node: fx.Node) -> tuple[str, ...]:
    """Dotted paths of all modules around the node, outermost first, without the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = (_ROOTS.sub("", entry[0]) for entry in stack.values())
    return tuple(path for path in paths if path and path != _SYNTHETIC)


def named(graph: fx.Graph) -> fx.Graph:
    """A copy of ``graph`` whose nodes have labels, origins and matching names; ``meta`` is carried over."""
    new = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    lines: dict[str, str | None] = {}
    for node, label, layers in _labelled(graph):
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: copies[n])
        copy = new.create_node(node.op, node.target, args, kwargs, name=identifier(label))
        if node.op == "placeholder":
            copy.target = copy.name
        copy.meta = dict(node.meta)
        copies[node] = copy
        if node.op != "output":
            set_origin(copy, Origin(label, layers, _source(node, lines)))
    return new


def source_line(stack_trace: str) -> str | None:
    """``file.py:12  code`` of the innermost frame that is not PyTorch's own, from a stack trace as text."""
    frames = [f for f in _FRAME.finditer(stack_trace) if not f["file"].startswith((_TORCH, "<"))]
    if not frames:
        return None
    frame = frames[-1]
    return f"{os.path.basename(frame['file'])}:{frame['line']}  {frame['code'].strip()}".rstrip()


def _source(node: fx.Node, lines: dict[str, str | None]) -> str | None:
    trace = node.meta.get("stack_trace")
    if not trace:
        return None
    if trace not in lines:
        lines[trace] = source_line(trace)
    return lines[trace]


def _labelled(graph: fx.Graph) -> list[tuple[fx.Node, str, tuple[str, ...]]]:
    counts = Counter(_call_of(node) for node in graph.nodes if node.op == "call_function")
    parents = {path for node in graph.nodes for path in scopes_of(node)[:-1]}
    taken = {str(node.target) for node in graph.nodes if node.op == "placeholder"}
    rows: list[tuple[fx.Node, str, tuple[str, ...]]] = []
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            rows.append((node, str(node.target), ()))
        elif node.op == "get_attr":
            wanted, owner = _attribute_label(node)
            rows.append((node, unique_label(wanted, taken), (owner,) if owner else ()))
        else:
            label = unique_label(_wanted(node, counts, parents), taken)
            rows.append((node, label, (label,)))
    return rows


def _attribute_label(node: fx.Node) -> tuple[str, str]:
    """Label of a ``get_attr`` node, and the module it belongs to."""
    target, scope = str(node.target), scope_of(node)
    if not target.startswith(f"{OWN_STATE}."):
        return target, target.rpartition(".")[0]
    return (f"{scope}.constant" if scope else target.removeprefix(f"{OWN_STATE}.")), scope


def _call_of(node: fx.Node) -> str:
    """One call of one module: its second call has another key, ``…relu@1``."""
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.keys())) if stack else ""


def _wanted(node: fx.Node, counts: Counter[str], parents: set[str]) -> str:
    scope = scope_of(node)
    if scope and scope not in parents and counts[_call_of(node)] == 1:
        return scope
    # The namespace of another package's operator would read like a layer.
    word = op_name(node).rpartition(".")[2]
    return _weight_owner(node, scope) or ".".join(filter(None, (scope, word)))


def _weight_owner(node: fx.Node, scope: str) -> str | None:
    """The sub-module whose parameters alone the operator reads: ``attn.qkv`` for ``F.linear(x, self.qkv.weight)``."""
    if overload(node) is None or len(node.args) < 2 or not isinstance(node.args[1], fx.Node):
        return None
    weights: list[Any] = [a for a in node.args[1:] if isinstance(a, fx.Node)]
    owners = {str(w.target).rpartition(".")[0] if w.op == "get_attr" else None for w in weights}
    owner = owners.pop() if len(owners) == 1 else None
    if not owner or owner.startswith(OWN_STATE) or not owner.startswith(f"{scope}." if scope else ""):
        return None
    return owner
