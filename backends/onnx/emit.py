"""``emit``: a program as an ONNX file that carries the model's own names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from torch import fx

from fxc.backends.onnx.legal import WAYS_OUT
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.shapes import Sizes
from fxc.backends.onnx.table import TABLE
from fxc.backends.onnx.translate import Translator
from fxc.backends.onnx.writer import Tensor, Unlowerable, Writer
from fxc.compiler.backend import Emitted
from fxc.compiler.errors import LegalityError, UsageError
from fxc.compiler.origin import label_of, op_name, where
from fxc.compiler.program import Program

IR_VERSIONS: Mapping[int, int] = MappingProxyType({13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9})
"""Opset to the ``ir_version`` of the ONNX release that brought it; the library's own default is too new for many readers."""

EXTERNAL_BYTES = 1 << 30
"""Weights above this size go to a file beside the model: a protobuf message ends at 2 GiB."""


def emit(
    program: Program,
    path: Path,
    *,
    opset: int = 17,
    batch: int | None = None,
    table: Mapping[Any, Lowering] = TABLE,
    external_bytes: int = EXTERNAL_BYTES,
    rewrite: Callable[[gs.Graph], tuple[str, ...] | None] | None = None,
) -> Emitted:
    """Write ``program`` to ``path`` and check the file with the ONNX checker and strict shape inference.

    Tensors are named by layer (``layer1.0.conv1``), initialisers by parameter, inputs and outputs as in the model.
    The same program gives the same bytes.

    Args:
        opset: 13 to 19.
        batch: the size of a dynamic batch dimension in the file; ``None`` leaves it dynamic.
        table: lowering table, for callers that extend it.
        external_bytes: weights of more bytes than this go to ``<path>.data``.
        rewrite: changes the graph in place before it is written; what it returns are notes.

    Raises:
        LegalityError: an operator that has no lowering, with its layer and source line; or the lowering of an
            extension wrote what the ONNX checker refuses.
        UsageError: an opset that is not supported.
    """
    if opset not in IR_VERSIONS:
        raise UsageError(
            f"ONNX opset {opset} is not supported", fix=f"one of {', '.join(map(str, IR_VERSIONS))}"
        )
    graph, tensors = build(program, opset=opset, batch=batch, table=table)
    notes = (rewrite(graph) if rewrite is not None else None) or ()
    model = gs.export_onnx(graph, do_type_check=False, ir_version=IR_VERSIONS[opset])
    # Set afterwards: graph-surgeon puts the graph's own (empty) producer over what it is given.
    model.producer_name, model.producer_version = "fxc", version("fxc")
    try:
        files = _write(model, path, external_bytes)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        foreign = sorted({str(n.target) for n in program.graph.nodes if _is_foreign(n, table)})
        if not foreign:
            raise
        raise _invalid(foreign, error) from error
    return Emitted(
        model=path.name,
        files=files,
        inputs=tuple(t.name for t in graph.inputs),
        outputs=tuple(t.name for t in graph.outputs),
        tools={"onnx": onnx.__version__, "onnx-graphsurgeon": gs.__version__},
        tensors=tensors,
        notes=notes,
    )


def build(
    program: Program, *, opset: int, batch: int | None = None, table: Mapping[Any, Lowering] = TABLE
) -> tuple[gs.Graph, dict[str, str]]:
    """The ONNX graph of ``program``, and the name of every labelled node's tensor in it.

    Raises:
        LegalityError: an operator that has no lowering.
    """
    writer = Writer(opset)
    translator = Translator(writer, Sizes.of(program, batch), table)
    inputs = [writer.fresh(spec.name) for spec in program.tensor_inputs]
    outputs = [writer.fresh(spec.name) for spec in program.outputs]
    graph_inputs = _walk(program, translator, inputs)
    graph_outputs = _outputs(program, translator, outputs)
    graph = gs.Graph(
        nodes=writer.nodes, inputs=graph_inputs, outputs=graph_outputs, name=program.name, opset=opset
    )
    graph.cleanup()
    return graph, _tensor_names(graph, translator)


def _walk(program: Program, translator: Translator, names: list[str]) -> list[gs.Variable]:
    waiting, inputs = iter(names), []
    for node in program.graph.nodes:
        try:
            if node.op == "placeholder":
                inputs.append(translator.input(node, next(waiting)))
            elif node.op == "get_attr":
                translator.parameter(node, program.tensor(str(node.target)))
            elif node.op == "call_function":
                translator.call(node)
        except Unlowerable as reason:
            raise _refused(node, translator.writer.opset, str(reason)) from None
    return inputs


def _refused(node: fx.Node, opset: int, reason: str) -> LegalityError:
    return LegalityError(
        f"{label_of(node)}: {op_name(node)} cannot be written as ONNX opset {opset}: {reason}",
        where=where(node),
        why=f"no ONNX form of {node.target} with these arguments is known here",
        fix=WAYS_OUT,
    )


def _is_foreign(node: fx.Node, table: Mapping[Any, Lowering]) -> bool:
    return node.op == "call_function" and node.target in table and table[node.target].foreign


def _invalid(foreign: list[str], error: Exception) -> LegalityError:
    return LegalityError(
        "the ONNX checker refuses the file",
        why=" ".join(str(error).split()),
        fix=f"look at what the extensions' lowerings write: {', '.join(foreign)}",
    )


def _outputs(program: Program, translator: Translator, names: list[str]) -> list[Tensor]:
    """Output tensors under the model's names; one that is an input, a constant or already an output is copied.

    So is a float one whose only reader is a Transpose, in a file that quantizes: ONNX Runtime 1.31 moves a QuantizeLinear in
    front of the Transpose, and the output with it behind the quantization.
    """
    outputs: list[Tensor] = []
    quantizes = any(node.op == "QuantizeLinear" for node in translator.writer.nodes)
    for node, name in zip(program.output_nodes(), names):
        tensor: Any = translator.values[node]
        if _taken(tensor, outputs) or (quantizes and _only_transposed(tensor)):
            copied = translator.writer.op("Identity", tensor)
            copied.dtype, copied.shape = tensor.dtype, tensor.shape
            tensor = copied
        tensor.name = name
        outputs.append(tensor)
    return outputs


def _taken(tensor: object, outputs: list[Tensor]) -> bool:
    return not isinstance(tensor, gs.Variable) or not tensor.inputs or any(tensor is o for o in outputs)


def _only_transposed(tensor: Tensor) -> bool:
    return tensor.inputs[0].op != "DequantizeLinear" and [n.op for n in tensor.outputs] == ["Transpose"]


def _tensor_names(graph: gs.Graph, translator: Translator) -> dict[str, str]:
    present = graph.tensors()
    return {
        label_of(node): value.name
        for node, value in translator.values.items()
        if node.op == "call_function" and isinstance(value, gs.Tensor) and value.name in present
    }


def _write(model: onnx.ModelProto, path: Path, external_bytes: int) -> tuple[str, ...]:
    weight_bytes = sum(t.ByteSize() for t in model.graph.initializer)
    if weight_bytes <= external_bytes:
        content = model.SerializeToString(deterministic=True)
        onnx.checker.check_model(content, full_check=True)
        path.write_bytes(content)
        return (path.name,)
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # the library appends to a file that exists
    onnx.save_model(model, path, save_as_external_data=True, location=beside.name, size_threshold=1024)
    onnx.checker.check_model(path, full_check=True)
    return (path.name, beside.name)
