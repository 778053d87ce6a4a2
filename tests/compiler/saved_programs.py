"""Small programs built node by node, for tests of files: they need no capture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils import _pytree as pytree

from fxc.compiler.origin import Origin, set_origin
from fxc.compiler.program import FoldedNorm, InputSpec, Note, OutputSpec, Program
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR

ATEN = torch.ops.aten


def finish(
    graph: fx.Graph,
    state: dict[str, Tensor],
    inputs: tuple[InputSpec, ...],
    outputs: tuple[OutputSpec, ...],
    call: Any,
    result: Any,
    **fields: Any,
) -> Program:
    """A program around ``graph`` with every value filled in; ``call`` and ``result`` show the structures."""
    environment = ShapeEnv()
    source = ConstantSource("batch")
    symbol = environment.create_symbol(2, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
    batch = environment.create_symintnode(symbol, hint=2, source=source)
    specs = iter([spec for spec in inputs if not spec.is_constant])
    with torch.no_grad(), FakeTensorMode(shape_env=environment):
        for node in graph.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
            if node.op == "placeholder":
                spec = next(specs)
                shape = [batch if isinstance(d, str) else d for d in spec.shape]
                node.meta["val"] = torch.empty(shape, dtype=getattr(torch, spec.dtype))
            elif node.op == "get_attr":
                like = state[str(node.target)]
                node.meta["val"] = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype)
            elif node.op == "call_function":
                node.meta["val"] = node.target(*args, **kwargs)  # type: ignore[operator]
    return Program(
        graph_module=fx.GraphModule(state, graph).eval(),
        inputs=inputs,
        outputs=outputs,
        in_spec=pytree.tree_structure((call, {})),
        out_spec=pytree.tree_structure(result),
        **fields,
    )


def conv_program(batch: int | str = "batch") -> Program:
    """A quantized convolution with a tied parameter, symbolic sizes, odd literals, notes and a folded norm."""
    torch.manual_seed(0)
    graph = fx.Graph()
    x = graph.placeholder("x")
    weight = graph.get_attr("layer1.0.conv1.weight")
    codes = graph.call_function(QUANTIZE_TENSOR, (x, 0.1, 3, -128, 127, torch.int8))
    back = graph.call_function(DEQUANTIZE_TENSOR, (codes, 0.1, 3))
    scale, zero = graph.get_attr("_fxc.scale"), graph.get_attr("_fxc.zero")
    float_weight = graph.call_function(DEQUANTIZE_CHANNEL, (weight, scale, zero, 0))
    conv = graph.create_node(
        "call_function",
        ATEN.conv2d.default,
        (back, float_weight, None, [1, 1], [1, 1], [1, 1], 1),
        name="layer1_0_conv1",
    )
    set_origin(conv, Origin("layer1.0.conv1", ("layer1.0.conv1",), "net.py:3  self.conv1(x)", "insert_qdq"))
    clamp = graph.call_function(ATEN.clamp.default, (conv, -float("inf"), 6.0))
    head, tied = graph.get_attr("head.weight"), graph.get_attr("tied.weight")
    size = graph.call_function(ATEN.sym_size.int, (clamp, 0))
    flat = graph.call_function(ATEN.reshape.default, (clamp, [size, 256]))
    first = graph.call_function(ATEN.linear.default, (flat, head, None))
    second = graph.call_function(ATEN.linear.default, (flat, tied, None))
    graph.output((first, second))
    matrix = nn.Parameter(torch.randn(5, 256))
    state = {
        "layer1.0.conv1.weight": torch.randint(-127, 128, (4, 3, 3, 3), dtype=torch.int8),
        "_fxc.scale": torch.rand(4) + 0.01,
        "_fxc.zero": torch.zeros(4, dtype=torch.int32),
        "head.weight": matrix,
        "tied.weight": matrix,
    }
    norm = FoldedNorm(*(torch.randn(4) for _ in range(4)))
    return finish(
        graph,
        state,
        (InputSpec("x", (batch, 3, 8, 8), "float32"),),
        (OutputSpec("first", (batch, 5), "float32"), OutputSpec("second", (batch, 5), "float32")),
        (0,),
        {"first": 0, "more": [0]},
        name="tiny",
        notes=(Note("warning", "a “note”", "layer1.0.conv1", "test"),),
        folded_norms={"layer1.0.conv1": norm},
        facts=frozenset({"canonical", "quantized"}),
        history=("canonicalize", "insert_qdq"),
        example_inputs=(torch.randn(2, 3, 8, 8),),
    )
