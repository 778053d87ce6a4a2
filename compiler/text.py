"""A program as text that diffs well, and its structural hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.origin import label_of, op_name
from fxc.compiler.program import Program, attributes_used

_SHORT = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "b1",
}  # fmt: skip


def dtype_name(dtype: torch.dtype) -> str:
    """``"float32"`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def value_text(val: Any) -> str:
    """``f32[batch,64,56,56]`` for a tensor value, the value itself for a number."""
    if isinstance(val, Tensor):
        name = dtype_name(val.dtype)
        return f"{_SHORT.get(name, name)}[{','.join(str(d) for d in val.shape)}]"
    if isinstance(val, (list, tuple)):
        return f"({', '.join(value_text(v) for v in val)})"
    return str(val)


def node_text(node: fx.Node) -> str:
    """One line: ``%conv1 = conv2d(%x, conv1.weight, None, [2, 2], …) : f32[N,64,112,112]``."""
    if node.op == "placeholder":
        return f"%{node.name} = input : {value_text(node.meta.get('val'))}"
    if node.op == "output":
        return f"return {_arg_text(node.args[0])}"
    if node.op == "get_attr":
        return f"%{node.name} = tensor {node.target} : {value_text(node.meta.get('val'))}"
    args = [_arg_text(a) for a in node.args] + [f"{k}={_arg_text(v)}" for k, v in node.kwargs.items()]
    return f"%{node.name} = {op_name(node)}({', '.join(args)}) : {value_text(node.meta.get('val'))}"


def program_text(program: Program) -> str:
    """One line per operator, tensors named inside the line that reads them, the layer as a trailing comment."""
    lines = []
    for node in program.graph.nodes:
        if node.op != "get_attr":
            label = label_of(node)
            comment = f"    # {label}" if node.op == "call_function" and label != node.name else ""
            lines.append(node_text(node) + comment)
    return "\n".join(lines) + "\n"


def _arg_text(arg: Any) -> str:
    if isinstance(arg, fx.Node):
        return str(arg.target) if arg.op == "get_attr" else f"%{arg.name}"
    if isinstance(arg, (list, tuple)):
        return f"[{', '.join(_arg_text(a) for a in arg)}]"
    if isinstance(arg, torch.dtype):
        return dtype_name(arg)
    return repr(arg) if isinstance(arg, str) else str(arg)


def structural_hash(program: Program, *, contents: bool = True) -> str:
    """SHA-256 over operators, connections, literals and (with ``contents``) the bytes of every tensor read.

    Names and metadata do not count: two programs with equal hashes compute the same function.
    """
    digest = hashlib.sha256()
    number = {node: i for i, node in enumerate(program.graph.nodes)}
    tensors = attributes_used(program.graph_module)
    for node in program.graph.nodes:
        digest.update(
            f"{node.op}|{_target_key(node)}|{_key(node.args, number)}|{_key(node.kwargs, number)}\n".encode()
        )
        if node.op == "get_attr":
            _hash_tensor(digest, tensors[str(node.target)], contents)
    digest.update(repr([(i.shape, i.dtype, i.value) for i in program.inputs]).encode())
    return digest.hexdigest()


def same_computation(a: Program, b: Program) -> bool:
    """Whether two programs are one graph over the very same tensors: they differ in names and metadata at most."""
    if len(a.graph.nodes) != len(b.graph.nodes):
        return False
    one: dict[fx.Node, int] = {}
    two: dict[fx.Node, int] = {}
    for place, (x, y) in enumerate(zip(a.graph.nodes, b.graph.nodes)):
        if x.op != y.op or not _same_target(x, y, a, b):
            return False
        if _key(x.args, one) != _key(y.args, two) or _key(x.kwargs, one) != _key(y.kwargs, two):
            return False
        one[x] = two[y] = place
    return True


def _same_target(x: fx.Node, y: fx.Node, a: Program, b: Program) -> bool:
    if x.op == "get_attr":
        return a.tensor(str(x.target)) is b.tensor(str(y.target))
    return x.op != "call_function" or x.target is y.target


def _target_key(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_function" else ""


def _key(arg: Any, number: Mapping[fx.Node, int]) -> str:
    if isinstance(arg, fx.Node):
        return f"%{number[arg]}"
    if isinstance(arg, (list, tuple)):
        return f"[{','.join(_key(a, number) for a in arg)}]"
    if isinstance(arg, dict):
        return f"{{{','.join(f'{k}:{_key(v, number)}' for k, v in sorted(arg.items()))}}}"
    return repr(arg)


def _hash_tensor(digest: Any, tensor: Tensor, contents: bool) -> None:
    digest.update(f"{dtype_name(tensor.dtype)}{list(tensor.shape)}".encode())
    if contents:
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
