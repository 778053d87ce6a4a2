"""How values and codes flow through a graph: which operators pass them on, where a pair begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fxc.backends.tensorrt.checker.graph import Array, Node, View

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that run in int8 when every data input comes from a dequantizer."""

PLAIN = ("Add", "Mul", "AveragePool", "GlobalAveragePool")
"""Operators without weights that run in int8 between dequantizers and a quantizer."""

MOVING = (
    "MaxPool",
    "Reshape",
    "Transpose",
    "Slice",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Split",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
    "Gather",
)
"""Operators that move or pick elements: a quantizer commutes with them, codes pass with the scale they came with.

So does a Resize to nearest neighbours.
"""

FUSED = ("Relu", "Clip", "LeakyRelu", "BatchNormalization")
"""Operators that TensorRT fuses into the weighted operator in front of them."""


def moves(node: Node) -> bool:
    """Whether a node only moves, picks or repeats elements of its first input."""
    nearest = node.op == "Resize" and node.attributes.get("mode", b"nearest") == b"nearest"
    return nearest or node.op in MOVING


def scale(view: View, node: Node) -> Array | None:
    """Scale of a quantizer or dequantizer, if it is constant."""
    return view.value(node.input(1))


def per_channel(view: View, node: Node) -> bool:
    """Whether a quantizer or dequantizer has more than one scale."""
    array = scale(view, node)
    return array is not None and array.size > 1


def same_scale(view: View, one: Node, other: Node) -> bool:
    """Whether two quantizers or dequantizers have equal scales; unknown scales count as equal."""
    a, b = scale(view, one), scale(view, other)
    return a is None or b is None or (a.size == b.size and bool((a.ravel() == b.ravel()).all()))


def back(view: View, tensor: str) -> tuple[str, list[Node]]:
    """Backward through moving operators: the tensor where they begin, and which they are."""
    passed: list[Node] = []
    node = view.producer(tensor)
    while node is not None and moves(node):
        passed.append(node)
        tensor = node.input(0)
        node = view.producer(tensor)
    return tensor, passed


def dequantizer(view: View, tensor: str) -> Node | None:
    """The dequantizer that a float tensor comes from, through moving operators.

    Of a concatenation of dequantized branches it is the first one's; whether they agree is a rule of its own.
    """
    first: Node | None = None
    tensors = [tensor]
    for name in tensors:
        node = view.producer(back(view, name)[0])
        if node is not None and node.op == "Concat":
            tensors.extend(dict.fromkeys(n for n in node.inputs if n not in tensors))
        elif node is None or node.op != DEQUANTIZE:
            return None
        first = first or (node if node.op == DEQUANTIZE else None)
    return first


def quantizer(view: View, node: Node) -> Node | None:
    """The quantizer whose codes a dequantizer reads, through moving operators."""
    made = view.producer(back(view, node.input(0))[0])
    return made if made is not None and made.op == QUANTIZE else None


def ends(view: View, tensor: str, passing: Callable[[Node], bool] = moves) -> list[Node | None]:
    """The operators that read a tensor, through ``passing`` ones; ``None`` for a graph output or no reader."""
    found: dict[Node | None, None] = {}
    tensors = [tensor]
    for name in tensors:
        if name in view.outputs or not view.readers(name):
            found[None] = None
        for node in view.readers(name):
            if passing(node):
                tensors.extend(out for out in node.outputs if view.uses(out) and out not in tensors)
            else:
                found[node] = None
    return list(found)


def direct(view: View, tensor: str) -> list[Node | None]:
    """The operators that read a tensor itself; ``None`` for a graph output or no reader."""
    return ends(view, tensor, lambda node: False)


def operands(view: View, node: Node) -> tuple[str, ...]:
    """The inputs of a weighted or plain operator that carry data or weights: no bias."""
    if node.op in ("Conv", "ConvTranspose", "Gemm"):
        return node.inputs[:2]
    return tuple(filter(None, node.inputs))


def integer(view: View, node: Node | None) -> bool:
    """Whether a weighted operator has a dequantizer on data and weight."""
    if node is None or node.op not in WEIGHTED:
        return False
    return all(dequantizer(view, name) for name in operands(view, node))


def straight(view: View, tensor: str) -> Node | None:
    """The int8 weighted operator that a tensor comes straight from, a bias added or not."""
    node = view.producer(tensor)
    if node is not None and node.op == "Add" and any(map(view.constant, node.inputs)):
        node = next((view.producer(name) for name in node.inputs if not view.constant(name)), None)
    return node if integer(view, node) else None


def activations(view: View, op: str) -> Iterator[Node]:
    """Quantizers or dequantizers of what depends on the graph's inputs."""
    return (node for node in view.of(op) if not view.constant(node.input(0)))
