"""A program as a folder: ``program.json`` and ``program.safetensors``. No pickle; loading runs no code from it.

The JSON holds the graph and everything about it, the safetensors file every tensor. ``stack_trace`` and
``nn_module_stack`` of a node are not kept: what a user reads of them is in the node's origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, fx

from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import (
    compact_json,
    read_json,
    reading,
    sha256,
    write_error,
    write_text,
)
from fxc.compiler.folders import replacing_directory
from fxc.compiler.origin import Origin, origin_of, set_origin
from fxc.compiler.program import FoldedNorm, Note, Program, attributes_used, graph_module_of
from fxc.compiler.serialize_fake import dimension_sizes, fill_values
from fxc.compiler.serialize_names import (
    NAMESPACES,
    attribute_path,
    file_names,
    identifier,
    operator_of,
    operator_text,
)
from fxc.compiler.serialize_values import (
    decode_argument,
    decode_frozen,
    decode_input,
    decode_output,
    decode_tree,
    encode_argument,
    encode_frozen,
    encode_input,
    encode_output,
    encode_tree,
    plain_tree,
)

KIND = "fxc program"
FORMAT = 1
GRAPH_FILE = "program.json"
TENSOR_FILE = "program.safetensors"
_START = b'{"digest":"'

Operator: TypeAlias = Callable[[object], Callable[..., Any]]
"""The function that a node's text names, if the file may use it."""


def save_program(program: Program, directory: Path | str, *, force: bool = False) -> Path:
    """Write ``program`` as the folder ``directory``; the same program gives the same bytes.

    Raises:
        ArtifactError: the folder cannot be written or holds something, or the program has no form as a file.
    """
    path = Path(directory)
    with replacing_directory(path, force=force, removable=is_program) as folder:
        write_program(program, folder)
    return path


def write_program(program: Program, folder: Path) -> None:
    """Write the two files of ``program`` into an existing folder.

    Raises:
        ArtifactError: no space, or the program has no form as a file.
    """
    # The copy has the names that FX itself gives, which loading will give again.
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    state = attributes_used(program.graph_module)
    names = file_names(state)
    state = {names[name]: tensor for name, tensor in state.items()}
    for node in graph.nodes:
        if node.op == "get_attr":
            node.target = names[node.target]
    tensors, shared = _unique(_all_tensors(program, state))
    try:
        save_file({key: tensors[key] for key in sorted(tensors)}, folder / TENSOR_FILE)
    except (SafetensorError, OSError) as error:
        raise write_error(folder, error) from error
    body = {
        "kind": KIND,
        "format": FORMAT,
        "torch": torch.__version__,
        "tensors": sha256(folder / TENSOR_FILE),
        "shared": shared,
        "parameters": {
            name: t.requires_grad for name, t in state.items() if isinstance(t, torch.nn.Parameter)
        },
        "nodes": [_encode_node(node) for node in graph.nodes],
        **_encode_fields(program),
    }
    write_text(folder / GRAPH_FILE, compact_json({**body, "digest": _digest(body)}) + "\n")


def load_program(
    directory: Path | str,
    *,
    namespaces: frozenset[str] = NAMESPACES,
    operators: frozenset[str] = frozenset(),
) -> Program:
    """Read what :func:`save_program` wrote. Nothing in the files can run: names and operators are checked first.

    Args:
        directory: the folder.
        namespaces: operator namespaces that the graph may use.
        operators: single operators of other namespaces that it may use too, ``"acme.soft_gate.default"``.

    Raises:
        ArtifactError: missing, cut short, changed, of an unknown format, or holding what a program cannot hold.
    """
    folder = Path(directory)
    with reading(folder / GRAPH_FILE):
        document = _read_document(folder / GRAPH_FILE)
        tensors = _read_tensors(folder / TENSOR_FILE, document)
        return _build(document, tensors, partial(operator_of, namespaces=namespaces, operators=operators))


def is_program(path: Path) -> bool:
    """Whether ``path`` is a folder that :func:`save_program` wrote, and nothing else is in it."""
    if sorted(p.name for p in path.iterdir()) != [GRAPH_FILE, TENSOR_FILE]:
        return False
    with (path / GRAPH_FILE).open("rb") as file:
        return file.read(len(_START)) == _START


def _encode_fields(program: Program) -> dict[str, Any]:
    notes = [asdict(note) for note in program.notes]
    if not (plain_tree(program.in_spec) and plain_tree(program.out_spec)):
        text = (
            "the model takes or returns a class of its own; the saved program uses tuples and dicts instead"
        )
        notes.append(asdict(Note("warning", text, by="save")))
    return {
        "name": program.name,
        "inputs": [encode_input(spec) for spec in program.inputs],
        "outputs": [encode_output(spec) for spec in program.outputs],
        "sizes": dimension_sizes(program.graph, program.inputs),
        "in_tree": encode_tree(program.in_spec),
        "out_tree": encode_tree(program.out_spec),
        "notes": notes,
        "folded_norms": sorted(program.folded_norms),
        "facts": sorted(program.facts),
        "history": list(program.history),
        "frozen_outputs": encode_frozen(program.frozen_outputs),
        "examples": len(program.example_inputs),
    }


def _encode_node(node: fx.Node) -> dict[str, Any]:
    target = operator_text(node.target) if node.op == "call_function" else str(node.target)
    coded = {
        "name": node.name,
        "op": node.op,
        "target": target,
        "args": [encode_argument(arg) for arg in node.args],
        "kwargs": {key: encode_argument(arg) for key, arg in node.kwargs.items()},
        "origin": dict(vars(origin_of(node))),
    }
    return coded if node.op != "output" else {**coded, "origin": None}


def _all_tensors(program: Program, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {f"state/{name}": tensor for name, tensor in state.items()}
    for label, norm in program.folded_norms.items():
        for part in ("mean", "var", "weight", "bias"):
            named[f"norm/{label}/{part}"] = getattr(norm, part)
    named.update({f"example/{i}": tensor for i, tensor in enumerate(program.example_inputs)})
    return named


def _unique(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and the names under which it is there again (tied weights)."""
    first: dict[tuple[Any, ...], str] = {}
    kept: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    storages: set[int] = set()
    for name in sorted(named):
        tensor = named[name].detach()
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        if key in first:
            shared[name] = first[key]
            continue
        first[key] = name
        storage = tensor.untyped_storage().data_ptr()
        # Two different views of one storage become two tensors.
        kept[name] = tensor.contiguous().clone() if storage in storages else tensor.cpu().contiguous()
        storages.add(storage)
    return kept, shared


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(compact_json(body).encode()).hexdigest()


def _read_document(path: Path) -> dict[str, Any]:
    document = read_json(path)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ArtifactError("this is not a saved program", fix="give the folder that save_program wrote")
    if document.get("format") != FORMAT:
        raise ArtifactError(
            f"the saved program has format {str(document.get('format'))[:20]}, this fxc reads {FORMAT}",
            fix="install the fxc that wrote it, or save the program again",
        )
    body = {key: value for key, value in document.items() if key != "digest"}
    if document.get("digest") != _digest(body):
        raise ArtifactError("the saved program was changed after it was written", fix="copy or save it again")
    return document


def _read_tensors(path: Path, document: Mapping[str, Any]) -> dict[str, Tensor]:
    with reading(path):
        if sha256(path) != document["tensors"]:
            raise ArtifactError("the file was cut short or changed after it was written", fix="copy it again")
        # Copies lie aligned in memory of their own: kernels then round as they do for the original, and a later
        # change of the file cannot reach them.
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors.update({name: tensors[source] for name, source in document["shared"].items()})
    return tensors


def _build(document: Mapping[str, Any], tensors: Mapping[str, Tensor], operator: Operator) -> Program:
    graph = fx.Graph()
    _add_nodes(graph, document["nodes"], operator)
    inputs = tuple(decode_input(value) for value in document["inputs"])
    outputs = tuple(decode_output(value) for value in document["outputs"])
    in_tree, out_tree = decode_tree(document["in_tree"]), decode_tree(document["out_tree"])
    frozen = decode_frozen(document["frozen_outputs"])
    _check_counts(graph, inputs, outputs, in_tree.num_leaves, out_tree.num_leaves - len(frozen))
    state = _state(graph, document, tensors)
    fill_values(graph, state, inputs, {str(k): int(v) for k, v in document["sizes"].items()})
    return Program(
        graph_module=_graph_module(state, graph),
        inputs=inputs,
        outputs=outputs,
        in_spec=in_tree,
        out_spec=out_tree,
        name=str(document["name"]),
        notes=tuple(Note(**note) for note in document["notes"]),
        folded_norms={label: _norm(label, tensors) for label in document["folded_norms"]},
        facts=frozenset(map(str, document["facts"])),
        history=tuple(map(str, document["history"])),
        example_inputs=tuple(tensors[f"example/{i}"] for i in range(int(document["examples"]))),
        frozen_outputs=frozen,
    )


def _add_nodes(graph: fx.Graph, nodes: list[Mapping[str, Any]], operator: Operator) -> None:
    made: dict[str, fx.Node] = {}
    for value in nodes:
        name = identifier(value["name"])
        node = graph.create_node(
            value["op"],
            _target(value, made, operator),
            tuple(decode_argument(arg, made) for arg in value["args"]),
            {identifier(key): decode_argument(arg, made) for key, arg in value["kwargs"].items()},
            name=name,
        )
        if node.name != name:
            raise ArtifactError(f"two nodes are called {name}, or FX reserves the name")
        made[name] = node
        if value["origin"] is not None:
            set_origin(node, _origin(value["origin"]))


def _target(value: Mapping[str, Any], made: Mapping[str, fx.Node], operator: Operator) -> Any:
    op, target = value["op"], value["target"]
    if op == "call_function":
        return operator(target)
    if op == "get_attr":
        return attribute_path(target)
    if (
        op == "placeholder"
        and all(n.op in ("placeholder", "get_attr") for n in made.values())
        and not value["args"]
    ):
        return identifier(target)
    if op == "output" and target == "output":
        return target
    raise ArtifactError(f"a node of kind {str(op)[:40]!r} is malformed or in the wrong place")


def _origin(value: Mapping[str, Any]) -> Origin:
    return Origin(value["label"], tuple(value["layers"]), value["source"], value["made_by"])


def _check_counts(graph: fx.Graph, inputs: Any, outputs: Any, in_leaves: int, out_leaves: int) -> None:
    nodes = list(graph.nodes)
    placeholders = sum(node.op == "placeholder" for node in nodes)
    if [node.op for node in nodes].count("output") != 1 or nodes[-1].op != "output":
        raise ArtifactError("the graph does not end in one output")
    results = nodes[-1].args[0]
    if not isinstance(results, (tuple, list)) or not len(results) == len(outputs) == out_leaves:
        raise ArtifactError("the graph's outputs and their specs differ in number")
    if placeholders != sum(not spec.is_constant for spec in inputs) or len(inputs) != in_leaves:
        raise ArtifactError("the graph's inputs and their specs differ in number")


def _state(
    graph: fx.Graph, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, torch.Tensor]:
    """What the graph reads, tied tensors as one object."""
    shared, parameters = document["shared"], document["parameters"]
    state: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    for target in dict.fromkeys(str(n.target) for n in graph.nodes if n.op == "get_attr"):
        key = shared.get(f"state/{target}", f"state/{target}")
        if target in parameters:
            parameter = torch.nn.Parameter(tensors[key], requires_grad=bool(parameters[target]))
            state[target] = made.setdefault(key, parameter)
        else:
            state[target] = tensors[key]
    return state


def _norm(label: str, tensors: Mapping[str, Tensor]) -> FoldedNorm:
    return FoldedNorm(*(tensors[f"norm/{label}/{part}"] for part in ("mean", "var", "weight", "bias")))


def _graph_module(state: Mapping[str, Tensor], graph: fx.Graph) -> fx.GraphModule:
    graph.lint()
    return graph_module_of(state, graph)
