"""Arguments, specs and structures of a program as JSON values, and back; every value from a file is checked."""

from __future__ import annotations

import math
import re
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxc.compiler.errors import ArtifactError
from fxc.compiler.program import InputSpec, OutputSpec
from fxc.compiler.serialize_names import literal_string

_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128",
)  # fmt: skip
_FORMATS = ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format")
_DIMENSION = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_DEPTH = 16
_INT64 = 1 << 63


def encode_argument(arg: Any) -> Any:
    """A node's argument as a JSON value: plain where JSON has it, else an object with one key that says what it is.

    Raises:
        ArtifactError: a kind of value that no operator of a program takes.
    """
    if arg is None or isinstance(arg, (bool, str)) or type(arg) is int:
        return arg
    if isinstance(arg, float):
        return arg if math.isfinite(arg) else {"float": str(arg)}
    if isinstance(arg, fx.Node):
        return {"node": arg.name}
    if isinstance(arg, list):
        return [encode_argument(a) for a in arg]
    if isinstance(arg, tuple):
        return {"tuple": [encode_argument(a) for a in arg]}
    if isinstance(arg, slice):
        return {"slice": [encode_argument(a) for a in (arg.start, arg.stop, arg.step)]}
    return _encode_torch(arg)


def _encode_torch(arg: Any) -> dict[str, str]:
    for kind in (torch.dtype, torch.memory_format, torch.layout):
        if isinstance(arg, kind):
            return {kind.__name__: str(arg).removeprefix("torch.")}
    if isinstance(arg, torch.device) and arg.type == "cpu":
        return {"device": "cpu"}
    raise ArtifactError(f"an argument {arg!r} of type {type(arg).__name__} cannot be saved")


def decode_argument(value: Any, nodes: Mapping[str, fx.Node], depth: int = 0) -> Any:
    """The argument that :func:`encode_argument` wrote; ``nodes`` are the nodes made so far.

    Raises:
        ArtifactError: an unknown kind, a node that does not exist yet, or nesting beyond reason.
    """
    if depth > _DEPTH:
        raise ArtifactError("an argument is nested too deeply")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return _int64(value)
    if isinstance(value, str):
        return literal_string(value)
    if isinstance(value, list):
        return [decode_argument(v, nodes, depth + 1) for v in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, inner),) = value.items()
        return _decode_tagged(kind, inner, nodes, depth)
    raise ArtifactError(f"an argument {str(value)[:60]} is of no known kind")


def _decode_tagged(kind: str, inner: Any, nodes: Mapping[str, fx.Node], depth: int) -> Any:
    if kind == "node" and isinstance(inner, str) and inner in nodes:
        return nodes[inner]
    if kind == "tuple" and isinstance(inner, list):
        return tuple(decode_argument(v, nodes, depth + 1) for v in inner)
    if kind == "slice" and isinstance(inner, list) and len(inner) == 3:
        return slice(*(decode_argument(v, nodes, depth + 1) for v in inner))
    if kind == "float" and inner in ("inf", "-inf", "nan"):
        return float(inner)
    if kind == "dtype" and inner in _DTYPES:
        return getattr(torch, inner)
    if kind == "memory_format" and inner in _FORMATS:
        return getattr(torch, inner)
    if kind == "layout" and inner == "strided":
        return torch.strided
    if kind == "device" and inner == "cpu":
        return torch.device("cpu")
    raise ArtifactError(f"an argument {kind}={str(inner)[:60]} is not known")


def _int64(value: int) -> int:
    if -_INT64 <= value < _INT64:
        return value
    raise ArtifactError("an integer argument does not fit 64 bits")


def dtype_of(name: object) -> torch.dtype:
    """``torch.float32`` for ``"float32"``.

    Raises:
        ArtifactError: not a dtype.
    """
    if name in _DTYPES:
        return getattr(torch, str(name))
    raise ArtifactError(f"{str(name)[:60]!r} is not a dtype")


def encode_input(spec: InputSpec) -> dict[str, Any]:
    """An input spec as a JSON object."""
    value = encode_argument(spec.value)
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype, "value": value}


def encode_output(spec: OutputSpec) -> dict[str, Any]:
    """An output spec as a JSON object."""
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}


def decode_input(value: Mapping[str, Any]) -> InputSpec:
    """The input spec that :func:`encode_input` wrote.

    Raises:
        ArtifactError: a size, a dtype or a constant that cannot be one.
    """
    if value["dtype"] == "constant":
        constant = value["value"] if isinstance(value["value"], str) else decode_argument(value["value"], {})
        return InputSpec(str(value["name"]), (), "constant", constant)
    dtype_of(value["dtype"])
    return InputSpec(str(value["name"]), decode_shape(value["shape"]), value["dtype"])


def encode_frozen(values: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Results that are no tensors, by their place, as JSON objects."""
    return [encode_input(InputSpec(str(k), (), "constant", v)) for k, v in sorted(values.items())]


def decode_frozen(values: list[Mapping[str, Any]]) -> dict[int, Any]:
    """What :func:`encode_frozen` wrote.

    Raises:
        ArtifactError: a constant that cannot be one.
    """
    return {int(spec.name): spec.value for spec in map(decode_input, values)}


def decode_output(value: Mapping[str, Any]) -> OutputSpec:
    """The output spec that :func:`encode_output` wrote.

    Raises:
        ArtifactError: a size or a dtype that cannot be one.
    """
    dtype_of(value["dtype"])
    return OutputSpec(str(value["name"]), decode_shape(value["shape"], expressions=True), value["dtype"])


def decode_shape(value: Sequence[Any], *, expressions: bool = False) -> tuple[int | str, ...]:
    """A shape of sizes and dimension names; ``expressions`` allows ``"2*batch"``, which is only ever shown.

    Raises:
        ArtifactError: something else among them.
    """
    for d in value:
        number = type(d) is int and 0 <= d < _INT64
        name = isinstance(d, str) and (_DIMENSION.fullmatch(d) or (expressions and len(d) < 200))
        if not number and not name:
            raise ArtifactError(f"{str(d)[:60]!r} is not a size")
    return tuple(value)


def encode_tree(spec: pytree.TreeSpec) -> Any:
    """The structure of arguments or results as JSON: leaves ``"*"``, containers as objects with one key.

    A named tuple, torch's own (``torch.topk``) included, is kept as a tuple and a registered dict-like class as a dict, because a file must not name classes.

    Raises:
        ArtifactError: a container that has no such form, or dict keys other than text and integers.
    """
    if spec.is_leaf():
        return "*"
    children = [encode_tree(spec.child(i)) for i in range(spec.num_children)]
    kind, context = spec.type, spec.context
    if kind is list:
        return {"list": children}
    if kind is namedtuple or (isinstance(kind, type) and issubclass(kind, tuple)):
        return {"tuple": children}
    keys = _dict_keys(kind, context)
    if keys is not None and len(keys) == len(children):
        return {"odict" if kind is OrderedDict else "dict": [list(pair) for pair in zip(keys, children)]}
    raise ArtifactError(
        f"a structure that contains {kind.__name__} cannot be saved",
        why="a file holds tuples, lists and dicts, and names no classes",
        fix="let the model's forward return tuples, lists or dicts",
    )


def _dict_keys(kind: Any, context: Any) -> list[Any] | None:
    if not (isinstance(kind, type) and issubclass(kind, dict)):
        return None
    # torch keeps a defaultdict's factory in front of its keys.
    keys = context[1] if issubclass(kind, defaultdict) else context
    plain = isinstance(keys, (list, tuple)) and all(isinstance(k, str) or type(k) is int for k in keys)
    return list(keys) if plain else None


def plain_tree(spec: pytree.TreeSpec) -> bool:
    """Whether :func:`encode_tree` keeps every container's own type."""
    if spec.is_leaf():
        return True
    own = spec.type in (list, tuple, dict, OrderedDict)
    return own and all(plain_tree(spec.child(i)) for i in range(spec.num_children))


def decode_tree(value: Any) -> pytree.TreeSpec:
    """The structure that :func:`encode_tree` wrote.

    Raises:
        ArtifactError: another kind of value, or nesting beyond reason.
    """
    return pytree.tree_structure(_skeleton(value, 0))


def _skeleton(value: Any, depth: int) -> Any:
    if value == "*":
        return 0
    if depth > _DEPTH or not isinstance(value, dict) or len(value) != 1:
        raise ArtifactError("a structure of inputs or outputs is malformed")
    ((kind, children),) = value.items()
    if kind in ("list", "tuple") and isinstance(children, list):
        items = [_skeleton(child, depth + 1) for child in children]
        return items if kind == "list" else tuple(items)
    if kind in ("dict", "odict") and isinstance(children, list):
        pairs = [(_dict_key(key), _skeleton(child, depth + 1)) for key, child in children]
        return dict(pairs) if kind == "dict" else OrderedDict(pairs)
    raise ArtifactError(f"a structure of inputs or outputs holds a {str(kind)[:60]!r}")


def _dict_key(key: Any) -> str | int:
    if isinstance(key, str) or type(key) is int:
        return key
    raise ArtifactError("a dict key is neither text nor an integer")
