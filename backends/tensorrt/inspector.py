"""What TensorRT's engine inspector says of an engine: which layer computes in which type.

Format: TensorRT developer guide, "Engine Inspector", with the detailed profiling verbosity that ``build_engine.py`` asks for.
Up to 10.x a tensor has one text for layout and type, ``Format/Datatype``; 11.0 split it in two and replaced the list of
bindings (migration guide from 10.x to 11.x, "IEngineInspector JSON output"). Built with less verbosity, a layer is its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fxc.compiler.device_engine import EngineLayer
from fxc.compiler.errors import ToolchainError

_MOVES = frozenset(
    {"reformat", "noop", "constant", "shuffle", "signal", "wait", "slice", "identity", "shape_host", "gather"}
)
"""Types of layers that compute nothing."""

_TYPES = (
    ("int8", re.compile(r"\bint8\b", re.I)),
    ("bf16", re.compile(r"\b(bf16|bfloat16)\b", re.I)),
    ("fp16", re.compile(r"\b(fp16|half|float16)\b", re.I)),
    ("fp8", re.compile(r"\bfp8\b", re.I)),
    ("fp32", re.compile(r"\b(fp32|float|float32|tf32)\b", re.I)),
)
"""Types that a layer computes in, as the inspector spells them in one version or another."""

_WIDEST_FIRST = ("fp32", "bf16", "fp16", "fp8", "int8")

_KERNELS = re.compile(r"(?<![a-z0-9])(i8|s8|int8|bf16|f16|f32|tf32)(?=i8|s8|f16|f32|i32|bf16|_|$)")
"""Where a kernel's name says it: ``sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_…``, ``…_f16f16_f16f32_…``."""
_OF_KERNEL = {"i8": "int8", "s8": "int8", "int8": "int8", "f16": "fp16", "bf16": "bf16"}
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def read_layers(file: Path) -> tuple[EngineLayer, ...]:
    """The layers in a file that holds the inspector's JSON.

    Raises:
        ToolchainError: no such file, or no such JSON.
    """
    try:
        return parse_layers(file.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise ToolchainError(f"cannot read {file}", why=error.strerror) from error


def parse_layers(text: str) -> tuple[EngineLayer, ...]:
    """The layers that compute, in the engine's order; those of an engine built with names only have no precision.

    Raises:
        ToolchainError: not the inspector's JSON.
    """
    try:
        entries = json.loads(text)["Layers"]
        layers = [_layer(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ToolchainError(
            "the description of the engine's layers cannot be read",
            why=f"no JSON of TensorRT's engine inspector: {type(error).__name__}: {error}",
        ) from error
    return tuple(layer for layer in layers if layer.kind.lower() not in _MOVES)


def missed(layers: Iterable[EngineLayer], asked: Collection[str]) -> dict[str, str]:
    """Of the nodes ``asked`` to run in int8, those that do not, with what they run in or that no layer names them."""
    ran: dict[str, set[str]] = {}
    for layer in layers:
        for part in layer.parts:
            ran.setdefault(part, set()).add(layer.precision)
    return {name: _told(ran.get(name, set())) for name in asked if "int8" not in ran.get(name, set())}


def _told(precisions: set[str]) -> str:
    if not precisions:
        return "no layer of the engine names it"
    return ", ".join(sorted(precisions)) if precisions != {"unknown"} else "TensorRT does not say in what"


def _layer(entry: Any) -> EngineLayer:
    if isinstance(entry, str):
        return EngineLayer(entry, "", "unknown", _names(entry))
    name, kind = str(entry["Name"]), str(entry.get("LayerType", ""))
    tactic = str(entry.get("TacticName", ""))
    return EngineLayer(name, kind, _precision(entry, tactic), tuple(_parts(entry, name)), tactic)


def _precision(entry: Mapping[str, Any], tactic: str) -> str:
    """The widest of what is multiplied: weights and first input, or all inputs; else by the kernel's name.

    What a convolution adds to its products may be wider than they are: it is a later input.
    """
    inputs = [_words(tensor) for tensor in entry.get("Inputs", ())]
    weights = entry.get("Weights")
    if isinstance(weights, Mapping) and "Type" in weights:
        inputs = [str(weights["Type"]), *(text for text in inputs[:1] if _known(text))]
    kinds = {_type(text) for text in inputs} if all(map(_known, inputs)) else set()
    return next((kind for kind in _WIDEST_FIRST if kind in kinds), None) or _by_kernel(tactic) or "unknown"


def _known(text: str) -> bool:
    """Without shapes a dynamic engine has ``"N/A due to dynamic shapes"``."""
    return bool(text) and not text.startswith("N/A")


def _words(tensor: Mapping[str, Any]) -> str:
    """Up to 10.x ``"Format/Datatype"``, from 11.0 on ``"DataType"``."""
    for key, value in tensor.items():
        if key.lower() in ("datatype", "format/datatype"):
            return str(value)
    return ""


def _type(text: str) -> str | None:
    return next((kind for kind, pattern in _TYPES if pattern.search(text)), None)


def _by_kernel(tactic: str) -> str | None:
    found = _KERNELS.search(tactic.lower())
    return _OF_KERNEL.get(found[1], "fp32") if found else None


def _parts(entry: Mapping[str, Any], name: str) -> Iterator[str]:
    """Names of ONNX nodes: in the metadata from 8.6 on, before that joined by plus signs in the layer's own name."""
    named = _ONNX.findall(str(entry.get("Metadata", "")))
    yield from dict.fromkeys([*named, *_names(name)])


def _names(name: str) -> tuple[str, ...]:
    """``a + b + PWN(c)`` and ``{ForeignNode[a...b]}``, which has only the ends of what it holds."""
    inner = re.sub(r"\{ForeignNode\[(.*?)\.\.\.(.*?)\]\}", r"\1 + \2", name)
    inner = re.sub(r"PWN\(|\)", " ", inner.replace(" || ", " + "))
    return tuple(part.strip() for part in re.split(r" \+ |, ", inner) if part.strip())
