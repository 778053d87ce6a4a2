"""The ONNX file: names, forms, opsets, batch, external weights, and what is refused."""

import collections
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxc.backends.onnx.emit import IR_VERSIONS, emit
from fxc.backends.onnx.legal import lowerable, violations
from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.table import TABLE
from fxc.backends.onnx.writer import Writer
from fxc.compiler.capture import capture
from fxc.compiler.errors import LegalityError, UsageError
from fxc.compiler.program import Program
from fxc.compiler.target import Limits
from fxc.passes.canonicalize import Canonicalize
from tests.conformance.case import Fn
from tests.models.small import build_small

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + F.gelu(self.norm(self.conv(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.layer1 = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 4)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.layer1(self.stem(pixels))
        return {"logits": self.head(features.mean((2, 3), keepdim=True).flatten(1)), "features": features}


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    return Canonicalize().apply(capture(module.eval(), inputs)).program


@pytest.fixture(scope="module")
def net() -> Program:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return program_of(Net(), IMAGE)


def written(program: Program, path: Path, **options: object) -> onnx.ModelProto:
    emit(program, path, **options)  # type: ignore[arg-type]
    return onnx.load(path)


def kinds(model: onnx.ModelProto) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in model.graph.node)


def test_names_are_the_models(net: Program, tmp_path: Path) -> None:
    emitted = emit(net, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert emitted.inputs == tuple(i.name for i in graph.input) == ("pixels",)
    assert emitted.outputs == tuple(o.name for o in graph.output) == ("logits", "features")
    assert {"stem.weight", "stem.bias", "layer1.0.conv.weight", "head.weight"} <= {
        i.name for i in graph.initializer
    }
    tensors = {output for node in graph.node for output in node.output}
    assert {"stem", "layer1.0.conv", "layer1.1.conv", "layer1.1.norm"} <= tensors
    assert emitted.tensors["layer1.0.conv"] == "layer1.0.conv"
    assert emitted.tensors["head"] == "logits"
    assert set(emitted.tensors.values()) <= tensors


def test_names_are_unique_and_nodes_are_called_like_their_output(net: Program, tmp_path: Path) -> None:
    graph = written(net, tmp_path / "m.onnx").graph
    names = [n for node in graph.node for n in node.output] + [i.name for i in graph.initializer]
    assert len(names) == len(set(names))
    assert len({node.name for node in graph.node}) == len(graph.node)
    (conv,) = [node for node in graph.node if "layer1.0.conv" in node.output]
    assert conv.name == "layer1.0.conv"


def test_exposed_tensors_are_the_layers_values(net: Program, tmp_path: Path) -> None:
    emitted = emit(net, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(emitted.tensors["layer1.0.conv"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: list[Tensor] = []
    module = Net().eval()
    module.load_state_dict(
        {name: net.tensor(name) for name in module.state_dict() if "num_batches" not in name}, strict=False
    )
    module.layer1[0].conv.register_forward_hook(lambda _m, _i, output: seen.append(output))
    module(IMAGE)
    found = session.run(None, {"pixels": IMAGE.numpy()})[-1]
    np.testing.assert_allclose(found, seen[0].detach().numpy(), atol=1e-5)


def test_every_layers_shape_is_in_the_file(net: Program, tmp_path: Path) -> None:
    graph = written(net, tmp_path / "m.onnx").graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info
    }
    assert shapes["layer1.0.conv"] == ["batch", 8, 14, 14]


@pytest.mark.parametrize("opset", list(IR_VERSIONS))
def test_ir_version_follows_the_opset(net: Program, opset: int, tmp_path: Path) -> None:
    model = written(net, tmp_path / "m.onnx", opset=opset)
    assert model.ir_version == {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9}[opset]
    assert [(i.domain, i.version) for i in model.opset_import] == [("", opset)]
    assert model.producer_name == "fxc"
    assert not model.doc_string
    assert not any(node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("opset", [12, 20])
def test_other_opsets_are_refused(net: Program, opset: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"opset {opset}"):
        emit(net, tmp_path / "m.onnx", opset=opset)


def test_batch_can_be_fixed(net: Program, tmp_path: Path) -> None:
    dims = written(net, tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 16, 16]
    model = written(net, tmp_path / "m.onnx", batch=3)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [3, 3, 16, 16]
    text = onnx.printer.to_text(model)
    assert "batch" not in text


def test_two_runs_give_the_same_bytes(net: Program, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        emit(net, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_large_weights_go_to_a_file_beside(net: Program, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for _ in range(2):  # the second run must not append to the first one's weights
        emitted = emit(net, path, external_bytes=1000)
        assert emitted.files == ("m.onnx", "m.onnx.data")
    emit(net, tmp_path / "whole.onnx")
    assert path.stat().st_size < (tmp_path / "whole.onnx").stat().st_size
    assert (tmp_path / "m.onnx.data").stat().st_size < 3 * 8 * 8 * 9 * 4 * 2
    results = [
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(
            None, {"pixels": IMAGE.numpy()}
        )
        for p in (path, tmp_path / "whole.onnx")
    ]
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_forms_that_runtimes_quantize(tmp_path: Path) -> None:
    def pooled(x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1)

    model = written(program_of(Fn(pooled), IMAGE), tmp_path / "m.onnx")
    assert kinds(model) == {"GlobalAveragePool": 1}
    model = written(program_of(nn.Linear(16, 4), torch.randn(2, 16)), tmp_path / "m.onnx")
    assert kinds(model) == {"Gemm": 1}
    model = written(program_of(nn.Linear(16, 4), torch.randn(2, 3, 16)), tmp_path / "m.onnx")
    assert kinds(model) == {"MatMul": 1, "Add": 1}


def test_opsets_choose_the_form(tmp_path: Path) -> None:
    program = program_of(nn.Sequential(nn.LayerNorm(16), nn.Hardswish()), torch.randn(2, 16))
    assert "HardSigmoid" in kinds(written(program, tmp_path / "m.onnx", opset=13))
    assert "HardSwish" in kinds(written(program, tmp_path / "m.onnx", opset=14))
    assert "ReduceMean" in kinds(written(program, tmp_path / "m.onnx", opset=16))
    assert "LayerNormalization" in kinds(written(program, tmp_path / "m.onnx", opset=17))


class Passthrough(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x * 2
        return x, y, y, y.reshape(2, -1)


def test_outputs_that_are_inputs_or_equal(tmp_path: Path) -> None:
    program = program_of(Passthrough(), IMAGE)
    emitted = emit(program, tmp_path / "m.onnx")
    assert len(set(emitted.outputs)) == 4
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {emitted.inputs[0]: IMAGE.numpy()})
    for got, want in zip(found, Passthrough()(IMAGE)):
        np.testing.assert_array_equal(got, want.numpy())


def test_a_zero_dimensional_constant_stays_so(tmp_path: Path) -> None:
    graph = written(program_of(Fn(lambda x: x[:, 1] + 0.5), IMAGE), tmp_path / "m.onnx").graph
    assert [list(i.dims) for i in graph.initializer] == [[], []]


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Fn(lambda x: torch.linalg.inv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + 1


def test_an_operator_without_lowering_is_named_with_its_place(tmp_path: Path) -> None:
    program = program_of(Unsupported(), IMAGE)
    with pytest.raises(LegalityError) as caught:
        emit(program, tmp_path / "m.onnx")
    assert "inner" in str(caught.value)
    assert "linalg_inv" in str(caught.value)
    assert "case.py" in (caught.value.where or "")
    assert "outputs" in (caught.value.fix or "")
    assert not (tmp_path / "m.onnx").exists()
    (violation,) = violations(program, opset=17, limits=Limits())
    assert violation.layer.startswith("inner")
    assert violation.fatal


def test_an_extended_table_is_used(tmp_path: Path) -> None:
    def inverse(g: Writer, A: Tensor) -> Tensor:
        return g.op("Neg", A)  # type: ignore[arg-type]

    program = program_of(Unsupported(), IMAGE)
    table = {**TABLE, **lowerings({torch.ops.aten.linalg_inv.default: inverse})}
    emit(program, tmp_path / "m.onnx", table=table)
    assert not [n for n in program.graph.nodes if lowerable(n, table=table)]
    assert kinds(onnx.load(tmp_path / "m.onnx")) == {"Neg": 1, "Add": 1}


def test_a_lowering_must_take_the_schemas_arguments() -> None:
    def relu(g: Writer, x: Tensor) -> Tensor:
        return x

    with pytest.raises(TypeError, match="relu takes"):
        lowerings({torch.ops.aten.relu.default: relu})


def test_training_mode_operators_are_refused() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    call = graph.call_function(torch.ops.aten.dropout.default, (x, 0.5, True))
    graph.output((call,))
    torch.fx.GraphModule({}, graph)
    for node in (x, call):
        node.meta["val"] = IMAGE
    assert "training" in (lowerable(call) or "")


def test_an_argument_that_a_lowering_ignores_must_be_the_default() -> None:
    graph = torch.fx.Graph()
    query = graph.placeholder("q")
    plain, grouped = (
        graph.call_function(
            torch.ops.aten.scaled_dot_product_attention.default, (query, query, query), {"enable_gqa": gqa}
        )
        for gqa in (False, True)
    )
    for node in (query, plain, grouped):
        node.meta["val"] = torch.randn(1, 2, 4, 8)
    assert lowerable(plain) is None
    assert "enable_gqa" in (lowerable(grouped) or "")


def test_limits_are_violations(net: Program) -> None:
    found = violations(net, opset=17, limits=Limits(max_rank=3))
    assert {v.layer for v in found} >= {"stem", "layer1.0.conv"}
    found = violations(net, opset=17, limits=Limits(dtypes=("float16",)))
    assert "float32" in found[0].rule


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["conv_chain", "residual", "transformer", "conv_transpose"])
def test_pytorchs_exporter_writes_the_same_products(name: str, tmp_path: Path) -> None:
    model, inputs = build_small(name)
    mine = written(program_of(model, *inputs), tmp_path / "mine.onnx", opset=17, batch=2)
    torch.onnx.export(
        model, inputs, tmp_path / "theirs.onnx", dynamo=False, opset_version=17, do_constant_folding=True
    )
    theirs = onnx.load(tmp_path / "theirs.onnx")
    for kind in (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Softmax",
        "Erf",
        "LayerNormalization",
        "MaxPool",
    ):
        assert kinds(mine)[kind] == kinds(theirs)[kind], kind
    outputs = []
    for path in (tmp_path / "mine.onnx", tmp_path / "theirs.onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs)}
        outputs.append(session.run(None, feeds))
    for a, b in zip(*outputs):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
