"""What of a saved program runs in eight bits: which products and sums stand between dequantize and quantize.

Core ML computes an operator on codes where its inputs are dequantized, its weight is a compressed constant of eight bits, and
everything that reads its result, behind its activation, quantizes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fxc.compiler.backend import Kernel

PRODUCTS = ("conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention")
SUMS = ("add",)
FUSED = (
    *(
        "clamped_relu",
        "clip",
        "elu",
        "gelu",
        "leaky_relu",
        "prelu",
        "relu",
        "relu6",
        "sigmoid",
        "sigmoid_hard",
        "silu",
    ),
    *("softplus", "tanh", "thresholded_relu"),
)
"""Activations that may stand between an operator and its quantizer."""
_WEIGHTED = ("conv", "conv_transpose", "linear")
_PASSES = ("expand_dims", "squeeze", "reshape")
"""What coremltools puts around a one-dimensional convolution that it writes as a two-dimensional one."""


@dataclass(frozen=True)
class Placed:
    """One operator of a program.

    Attributes:
        name, op: of its result, and MIL's.
        why: why it does not run in eight bits; empty if it does.
    """

    name: str
    op: str
    why: str = ""


@dataclass
class _Block:
    made_by: dict[str, Any] = field(default_factory=dict)
    readers: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    outputs: tuple[str, ...] = ()


def placed(program: Any, kinds: tuple[str, ...] = PRODUCTS) -> list[Placed]:
    """Every operator of ``kinds`` in the main function of a ``Program`` message, in order.

    A product of a weight that is decompressed at run time is one; a sum of a constant is none.
    """
    function = program.functions["main"]
    block = function.block_specializations[function.opset]
    known = _read(block)
    return [
        Placed(op.outputs[0].name, op.type, _reason(op, known))
        for op in block.operations
        if op.type in kinds and (op.type not in SUMS or not any(_is_constant(n, known) for n in _names(op)))
    ]


def kernels(program: Any) -> list[Kernel]:
    """Every operator that multiplies; asked for in integers is what stands between dequantize and quantize."""
    return [
        Kernel(p.name, p.op, p.why or "between dequantize and quantize", not p.why, planned=True)
        for p in placed(program)
    ]


def _read(block: Any) -> _Block:
    known = _Block(outputs=tuple(block.outputs))
    for op in block.operations:
        for made in op.outputs:
            known.made_by[made.name] = op
        for name in _names(op):
            known.readers[name].append(op)
    return known


def _names(op: Any, *parameters: str) -> Iterator[str]:
    for parameter, argument in op.inputs.items():
        if parameters and parameter not in parameters:
            continue
        yield from (b.name for b in argument.arguments if b.WhichOneof("binding") == "name")


def _reason(op: Any, known: _Block) -> str:
    for name in _names(op, "x", "y", "values"):
        maker = _behind(name, known)
        if maker != "dequantize":
            return f"its input comes from {maker}"
    if op.type in _WEIGHTED:
        (weight,) = _names(op, "weight")
        kind = known.made_by[weight].type if weight in known.made_by else "an input"
        if kind not in ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"):
            return f"its weight comes from {kind}"
    return _ends(op.outputs[0].name, known)


def _behind(name: str, known: _Block) -> str:
    op = known.made_by.get(name)
    while op is not None and op.type in _PASSES:
        op = known.made_by.get(next(_names(op, "x"), ""))
    return op.type if op is not None else "the model's input"


def _ends(name: str, known: _Block) -> str:
    """Why the value is not only read by quantizers; empty if it is."""
    if name in known.outputs:
        return "its result is the model's output"
    readers = known.readers[name]
    if len(readers) == 1 and (readers[0].type in FUSED or readers[0].type in _PASSES):
        return _ends(readers[0].outputs[0].name, known)
    others = sorted({r.type for r in readers if r.type != "quantize"})
    return f"its result is read by {', '.join(others)}" if others else ""


def _is_constant(name: str, known: _Block) -> bool:
    op = known.made_by.get(name)
    return op is not None and (op.type == "const" or op.type.startswith("constexpr_"))
