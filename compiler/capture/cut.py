"""``outputs=[…]``: end the program at named layers."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence

from torch import fx
from torch.utils import _pytree as pytree

from fxc.compiler.capture.functional import drop_dead
from fxc.compiler.capture.names import scopes_of
from fxc.compiler.capture.specs import Dimensions
from fxc.compiler.editor import Editor
from fxc.compiler.errors import UsageError
from fxc.compiler.origin import identifier, label_of, unique_label
from fxc.compiler.program import OutputSpec, Program, output_node


def cut_program(program: Program, wanted: Sequence[str]) -> Program:
    """The program that returns the values of the layers ``wanted``, as a tuple; its inputs stay.

    Raises:
        UsageError: a name that fits nothing.
    """
    editor = Editor(program, "capture")
    ends = _find(editor.graph, wanted)
    end = output_node(editor.graph)
    end.args, end.meta = (ends,), {}
    drop_dead(editor.graph)
    taken = {spec.name for spec in program.inputs}
    names = [unique_label(identifier(label_of(node)), taken) for node in ends]
    dims = Dimensions.of_inputs(program, editor.graph)
    return editor.finish(
        outputs=tuple(OutputSpec(n, *dims.of(node.meta["val"])) for n, node in zip(names, ends)),
        out_spec=pytree.tree_structure(tuple(names)),
        frozen_outputs={},
    )


def _find(graph: fx.Graph, wanted: Sequence[str]) -> tuple[fx.Node, ...]:
    """The nodes that ``wanted`` names, in that order, each once.

    A name is a node's label (``"layer4.1.add"``), a module of the model (``"layer4"``: its last value), or a glob
    over labels (``"head.*.conv"``, in graph order).

    Raises:
        UsageError: a name that fits nothing; the nearest names are listed.
    """
    nodes = [node for node in graph.nodes if node.op == "call_function"]
    by_label = {label_of(node): node for node in nodes}
    by_module = {path: node for node in nodes for path in scopes_of(node)}
    found: dict[fx.Node, None] = {}
    for name in wanted:
        found.update(dict.fromkeys(_matches(name, by_label, by_module)))
    return tuple(found)


def _matches(name: str, by_label: dict[str, fx.Node], by_module: dict[str, fx.Node]) -> list[fx.Node]:
    if name in by_label:
        return [by_label[name]]
    if name in by_module:
        return [by_module[name]]
    matched = [node for label, node in by_label.items() if fnmatch.fnmatchcase(label, name)]
    if matched:
        return matched
    near = difflib.get_close_matches(name, [*by_label, *by_module], n=5, cutoff=0.5)
    raise UsageError(
        f"no layer is named {name!r}",
        why=f"nearest names: {', '.join(near)}" if near else "nothing in the model has a similar name",
        fix="name a layer as the model does (layer4.1.conv2), or use a glob over such names",
    )
