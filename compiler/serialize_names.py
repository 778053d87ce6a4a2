"""Which names and operators a program read from a file may contain.

FX makes Python source of a graph and executes it: placeholder targets, keyword names and attribute paths go into that
source as they are (``torch.fx.graph``, ``CodeGen``). So a name from a file is a strict identifier or it is refused,
and a function from a file is one of a closed set.
"""

from __future__ import annotations

import keyword
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload, OpOverloadPacket

from fxc.compiler.errors import ArtifactError
from fxc.compiler.origin import unique_label
from fxc.compiler.program import OWN_STATE

NAMESPACES = frozenset({"aten", "fxc"})
"""Operator namespaces that a saved program may use without the caller's consent."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# What is no identifier FX writes as getattr(…, "part"), where these characters mean nothing ("block1-0" is torchvision's).
_PATH_PART = re.compile(r"[A-Za-z0-9_ :/+-]+", re.ASCII)
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_]", re.ASCII)
_OPERATOR = re.compile(r"([A-Za-z_]\w*)\.(\w+)\.(\w+)", re.ASCII)
_STRING = re.compile(r"[\w ,.>-]{0,64}", re.ASCII)

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        **{
            f"operator.{name}": getattr(operator, name)
            for name in (
                "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul", "ne", "neg",
                "or_", "pos", "pow", "sub", "truediv",
            )
        },
        **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
        **{
            f"torch.{name}": getattr(torch, name)
            for name in ("sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sqrt", "sym_sum")
        },
    }
)  # fmt: skip
"""Python functions on sizes that a graph may call, by their text."""

_FUNCTION_TEXT = {function: text for text, function in FUNCTIONS.items()}
_MODULE_ATTRIBUTES = frozenset({*dir(nn.Module), *vars(nn.Module())})
_GRAPH_MODULE_ATTRIBUTES = frozenset({*dir(fx.GraphModule), "graph", "_graph", "_code", "_codegen", "meta"})


def identifier(name: object) -> str:
    """``name`` if it is a plain ASCII Python identifier and no keyword.

    Raises:
        ArtifactError: anything else.
    """
    if (
        isinstance(name, str)
        and _IDENTIFIER.fullmatch(name)
        and not keyword.iskeyword(name)
        and name != "self"
    ):
        return name
    raise ArtifactError(f"{_shown(name)} is not an identifier", why=_WHY)


def attribute_path(target: object) -> str:
    """``target`` if it is a dotted path of plain names that shadow nothing of a module's own.

    Raises:
        ArtifactError: anything else.
    """
    parts = target.split(".") if isinstance(target, str) else [""]
    plain = all(_PATH_PART.fullmatch(p) and p not in _MODULE_ATTRIBUTES for p in parts)
    if plain and parts[0] not in _GRAPH_MODULE_ATTRIBUTES:
        return ".".join(parts)
    raise ArtifactError(f"{_shown(target)} is not a tensor's name", why=_WHY)


def file_names(names: Iterable[str]) -> dict[str, str]:
    """The name that each tensor has in a file: its own where :func:`attribute_path` takes it, else one made of it.

    A module may be called ``größe``, which no graph read from a file may name.
    """
    known = list(names)
    taken, found = set(known), {}
    for name in known:
        try:
            found[name] = attribute_path(name)
        except ArtifactError:
            found[name] = unique_label(f"{OWN_STATE}.{_NOT_PLAIN.sub('_', name)}", taken)
    return found


def literal_string(text: object) -> str:
    """``text`` if it looks like an operator's option (``"tanh"``, ``"floor"``, an einsum equation).

    Raises:
        ArtifactError: anything else.
    """
    if isinstance(text, str) and _STRING.fullmatch(text):
        return text
    raise ArtifactError(
        f"{_shown(text)} is not an operator's option", why="no ATen option needs other characters"
    )


def operator_text(target: Any) -> str:
    """``"aten.conv2d.default"`` for an operator overload, ``"operator.mul"`` for a function of :data:`FUNCTIONS`.

    Raises:
        ArtifactError: another kind of function.
    """
    if isinstance(target, OpOverload):
        return str(target)
    if target in _FUNCTION_TEXT:
        return _FUNCTION_TEXT[target]
    raise ArtifactError(f"a graph that calls {target!r} cannot be saved", why="it is not an operator")


def operator_of(
    text: object, namespaces: frozenset[str] = NAMESPACES, operators: frozenset[str] = frozenset()
) -> Callable[..., Any]:
    """The function that :func:`operator_text` named. Nothing is imported to find it.

    Args:
        text: what the file says.
        namespaces: every operator of these may be used.
        operators: single ones of other namespaces that may be used too, by their text.

    Raises:
        ArtifactError: unknown, in another namespace, or one that no model needs: it reads files, or has no tensor.
    """
    if isinstance(text, str) and text in FUNCTIONS:
        return FUNCTIONS[text]
    match = _OPERATOR.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ArtifactError(f"{_shown(text)} is not an operator", why=_WHY)
    if match[1] not in namespaces and text not in operators:
        raise ArtifactError(
            f"operator {text} belongs to another package and is not allowed here",
            why=f"allowed: {', '.join(sorted((*namespaces, *operators)))}",
            fix="install or import the extension that defines it: fxc.load(path, extensions=[…]); for a saved program, "
            "allow its namespace",
        )
    overload = _find(match[1], match[2], match[3])
    if overload is None:
        known = match[1] in NAMESPACES
        raise ArtifactError(
            f"operator {text} does not exist in this PyTorch ({torch.__version__})"
            if known
            else f"operator {text} is not registered",
            fix=None if known else "import the package that defines it first",
        )
    if reason := refusal(overload):
        raise ArtifactError(f"operator {text} is refused in a file", why=reason)
    return overload


def refusal(overload: OpOverload) -> str | None:
    """Why ``overload`` must not come from a file, or ``None``."""
    schema = overload._schema
    if any(a.name == "filename" for a in schema.arguments):
        return "it reads or writes files"
    kinds = [str(a.type) for a in (*schema.arguments, *schema.returns)]
    name = schema.name.split("::")[1]
    if not any("Tensor" in kind for kind in kinds) and not name.startswith(("sym_", "_assert")):
        return "it computes no tensor"
    return None


def _find(namespace: str, name: str, overload: str) -> OpOverload | None:
    packet = getattr(getattr(torch.ops, namespace), name, None)
    if not isinstance(packet, OpOverloadPacket) or overload not in packet.overloads():
        return None
    found = getattr(packet, overload)
    return found if isinstance(found, OpOverload) else None


_WHY = "names of a graph become Python source"


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 60 else f"{text[:60]}…"
