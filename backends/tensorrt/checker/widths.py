"""Rules about channel counts for which TensorRT has no int8 kernel, or none that pays."""

from __future__ import annotations

from collections.abc import Iterator

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting, on_gpu
from fxc.backends.tensorrt.checker.walk import WEIGHTED, integer, operands

GROUP_MULTIPLE = 4
NARROW = 16


def _convolutions(view: View) -> Iterator[tuple[Node, int, int, int]]:
    """Int8 convolutions with groups, input channels and output channels."""
    for node in view.of("Conv", "ConvTranspose"):
        shape, groups = view.shape(node.input(1)), int(node.attributes.get("group", 1))
        if shape is None or not integer(view, node) or shape[0] is None or shape[1] is None:
            continue
        first, second = shape[0], shape[1] * groups
        yield (node, groups, second, first) if node.op == "Conv" else (node, groups, first, second)


def group_alignment(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IConvolutionLayer: grouped int8 needs a multiple of 4 channels per group on both sides."""
    for node, groups, read, made in _convolutions(view):
        per_group = (read // groups, made // groups)
        if 1 < groups < read and any(width % GROUP_MULTIPLE for width in per_group):
            yield Place(
                node,
                node.input(1),
                f"{per_group[0]} to {per_group[1]} channels per group, not multiples of 4",
            )


def depthwise(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IConvolutionLayer: the limit of ``group-alignment``, which no depthwise convolution meets.

    Some GPUs have int8 depthwise kernels for some shapes all the same.
    """
    for node, groups, read, _ in _convolutions(view):
        if groups > 1 and groups == read:
            yield Place(
                node, node.input(1), "a depthwise convolution; int8 seldom pays, and it may fall to float"
            )


def narrow_convolution(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA ModelOpt, ONNX quantizer: leaves convolutions below 16 channels in float, the first layer excepted."""
    for node, groups, read, made in _convolutions(view):
        few = made < NARROW or (read < NARROW and not _first(view, node))
        if groups == 1 and few:
            yield Place(node, node.input(1), f"{read} to {made} channels; below 16 int8 does not pay")


def _first(view: View, node: Node) -> bool:
    """Whether only operators with one input that depends on data lie between a graph input and ``node``."""
    tensor = node.input(0)
    while (maker := view.producer(tensor)) is not None:
        data = {name for name in maker.inputs if name and not view.constant(name)}
        if maker.op in WEIGHTED or len(data) != 1:
            return False
        tensor = data.pop()
    return tensor in view.inputs


def narrow_product(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA ModelOpt, ONNX quantizer: leaves matrix products with K or N below 16 in float."""
    for node in view.of("Gemm", "MatMul"):
        sizes = _sizes(view, node)
        if integer(view, node) and any(size is not None and size < NARROW for size in sizes):
            yield Place(
                node, operands(view, node)[1], f"K, N = {sizes[0]}, {sizes[1]}; below 16 int8 does not pay"
            )


def _sizes(view: View, node: Node) -> tuple[int | None, int | None]:
    """K and N of a matrix product."""
    shape = view.shape(node.input(1))
    if shape is None or len(shape) < 2:
        return None, None
    return (shape[-1], shape[-2]) if node.attributes.get("transB", 0) else (shape[-2], shape[-1])


RULES = (
    Rule("group-alignment", "slow", group_alignment, on_gpu),
    Rule("depthwise", "slow", depthwise, on_gpu),
    Rule("narrow-convolution", "slow", narrow_convolution, on_gpu),
    Rule("narrow-product", "slow", narrow_product, on_gpu),
)
