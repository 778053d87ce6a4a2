"""Rules about operators and sizes that the deep learning accelerator takes. Others go back to the GPU, or fail where
that is not allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting, on_dla
from fxc.backends.tensorrt.checker.walk import DEQUANTIZE, QUANTIZE

OPERATORS = frozenset(
    [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Constant",
        "Conv",
        "ConvTranspose",
        "Gemm",
        "Identity",
        "LRN",
        "LeakyRelu",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "PRelu",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Upsample",
    ]
)
"""Operators of ONNX that TensorRT hands to the accelerator."""

MAX_BATCH, MAX_SIZE = 4096, 8192

_CONVOLUTION = {"kernel": (1, 32), "stride": (1, 8), "dilation": (1, 32), "pad": (0, 31)}
_DECONVOLUTION = {"kernel": (1, 32), "stride": (1, 32), "dilation": (1, 1), "pad": (0, 0)}
_POOL = {"kernel": (1, 8), "stride": (1, 16), "dilation": (1, 1), "pad": (0, 7)}
LIMITS = {"Conv": _CONVOLUTION, "ConvTranspose": _DECONVOLUTION, "MaxPool": _POOL, "AveragePool": _POOL}
"""Operator to window attribute to its lowest and highest value."""

RESIZE = {"nearest": 32, "linear": 4}
"""Interpolation to its highest factor; nearest takes whole factors only."""


def dla_operator(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA Deep-Learning-Accelerator-SW ``operators/README.md``, the column of what TensorRT exposes.

    A Cast at the network's border belongs to the copy in or out.
    """
    known = OPERATORS | {QUANTIZE, DEQUANTIZE}
    for node in view.nodes:
        border = node.op == "Cast" and (node.input(0) in view.inputs or node.output in view.outputs)
        if node.op not in known and not border and not view.constant(node.output):
            yield Place(node, node.output, f"{node.op} is not an operator of the accelerator")


def dla_size(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: batch at most 4096, other dimensions 8192."""
    for name in (*sorted(view.inputs), *(node.output for node in view.nodes)):
        batch, *sizes = view.shape(name) or (None,)
        if not view.constant(name) and ((batch or 0) > MAX_BATCH or any((s or 0) > MAX_SIZE for s in sizes)):
            yield Place(view.producer(name), name, f"shape {[batch, *sizes]} above {MAX_BATCH} or {MAX_SIZE}")


def dla_window(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: convolution, deconvolution and pooling layers."""
    for node in view.of(*LIMITS):
        for what, (low, high) in LIMITS[node.op].items():
            sizes = _window(view, node)[what]
            if any(not low <= size <= high for size in sizes):
                yield Place(node, node.output, f"{what} {list(sizes)} of {node.op} outside {low} to {high}")


def _window(view: View, node: Node) -> dict[str, Sequence[int]]:
    given = node.attributes
    weight = [size or 1 for size in view.shape(node.input(1)) or ()] if node.input(1) else []
    kernel = given.get("kernel_shape") or weight[2:]
    named = {"stride": "strides", "dilation": "dilations", "pad": "pads"}
    return {"kernel": kernel, **{what: given.get(name, ()) for what, name in named.items()}}


def dla_channels(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: at most 8192 channels and groups; no grouped deconvolution."""
    for node in view.of("Conv", "ConvTranspose"):
        groups = int(node.attributes.get("group", 1))
        widest = max((size or 0 for size in (view.shape(node.input(1)) or (0,))[:2]), default=0)
        if node.op == "ConvTranspose" and groups > 1:
            yield Place(node, node.input(1), f"a deconvolution in {groups} groups; the accelerator takes one")
        elif max(groups, widest) > MAX_SIZE:
            yield Place(node, node.input(1), f"{widest} channels in {groups} groups, above {MAX_SIZE}")


def dla_concat_axis(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: concatenation along the channel axis only."""
    for node in view.of("Concat"):
        rank, axis = len(view.shape(node.output) or ()), int(node.attributes["axis"])
        if (axis % rank if rank else axis) != 1 and not view.constant(node.output):
            yield Place(
                node, node.output, f"concatenation along axis {axis}; the accelerator has axis 1 only"
            )


def dla_product(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA Deep-Learning-Accelerator-SW ``operators/README.md``: the second input of a MatMul is constant."""
    for node in view.of("MatMul"):
        if not view.constant(node.input(1)):
            yield Place(
                node, node.input(1), "a product of two activations; the accelerator needs constant weights"
            )


def dla_resize(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: nearest by whole factors to 32, linear to 4."""
    for node in view.of("Resize", "Upsample"):
        mode = node.attributes.get("mode", b"nearest").decode()
        factors = _factors(view, node)
        whole = mode == "linear" or all(f == int(f) for f in factors)
        if not (whole and all(1 <= f <= RESIZE.get(mode, 0) for f in factors)):
            yield Place(
                node, node.output, f"{mode} resize by {factors}; nearest takes 1 to 32, linear 1 to 4"
            )


def _factors(view: View, node: Node) -> list[float]:
    """Factor of each dimension; 0 where it is not known."""
    before, after = view.shape(node.input(0)) or (), view.shape(node.output) or ()
    return [(a or 0) / b if b else 0.0 for a, b in zip(after, before)] or [0.0]


RULES = (
    Rule("dla-operator", "slow", dla_operator, on_dla),
    Rule("dla-size", "slow", dla_size, on_dla),
    Rule("dla-window", "slow", dla_window, on_dla),
    Rule("dla-channels", "slow", dla_channels, on_dla),
    Rule("dla-concat-axis", "slow", dla_concat_axis, on_dla),
    Rule("dla-product", "slow", dla_product, on_dla),
    Rule("dla-resize", "slow", dla_resize, on_dla),
)
