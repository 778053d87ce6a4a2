"""Q/DQ graphs as ONNX: ONNX Runtime's integers are, bit for bit, what the FX graph computes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fxc.backends.onnx.emit import emit
from fxc.compiler import qdq
from fxc.compiler.capture import capture
from fxc.compiler.errors import LegalityError
from fxc.compiler.program import Program
from fxc.passes.canonicalize import Canonicalize
from tests.backends.int8 import Int8Conv, Int8Linear, Int8Net, requantized
from tests.conformance.case import Fn


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    return Canonicalize().apply(capture(module, inputs)).program


def run(path: Path, *inputs: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs)})
    return output


def pool(x: Tensor) -> Tensor:
    return requantized(nn.functional.max_pool2d(requantized(x, 2**-4, 100), 2), 2**-4, 100)


def total(x: Tensor, y: Tensor) -> Tensor:
    return requantized(requantized(x, 2**-4, 128) + requantized(y, 2**-5, 100), 2**-3, 90)


def joined(x: Tensor, y: Tensor) -> Tensor:
    return requantized(torch.cat([requantized(x, 2**-4, 128), requantized(y, 2**-4, 128)], 1), 2**-4, 128)


IMAGE = 2 * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
SINGLE = {
    "quantize": (Fn(lambda x: requantized(x, 0.037, 11)), (IMAGE,)),
    "quantize_ties": (Fn(lambda x: requantized(x, 0.5, 7)), (torch.arange(-20, 20).reshape(2, 4, 5) / 4,)),
    "conv": (Int8Conv(), (IMAGE,)),
    "conv_signed": (Int8Conv(relu=False, zero_point=131), (IMAGE,)),
    "conv_pointwise": (Int8Conv(kernel=1), (IMAGE,)),
    "conv_depthwise": (Int8Conv(4, 4, groups=4), (IMAGE,)),
    "linear": (Int8Linear(), (torch.randn(3, 16),)),
    "linear_rank3": (Int8Linear(), (torch.randn(2, 5, 16),)),
    "add": (Fn(total), (IMAGE, IMAGE.flip(0))),
    "cat": (Fn(joined), (IMAGE, IMAGE.flip(0))),
    "max_pool": (Fn(pool), (IMAGE,)),
}


@pytest.mark.parametrize("opset", [13, 17, 19])
@pytest.mark.parametrize("name", SINGLE)
def test_one_operator_is_equal_bit_for_bit(name: str, opset: int, tmp_path: Path) -> None:
    module, inputs = SINGLE[name]
    program = program_of(module, *inputs)
    emit(program, tmp_path / "m.onnx", opset=opset)
    expected = program.run_flat(*inputs)[0].numpy()
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", *inputs), expected)


def test_a_rank3_linear_reads_transposed_codes(tmp_path: Path) -> None:
    program = program_of(Int8Linear(), torch.randn(2, 5, 16))
    emit(program, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    codes = {i.name: i for i in graph.initializer}["codes.transposed"]
    assert list(codes.dims) == [16, 8]
    assert codes.data_type == onnx.TensorProto.INT8
    (reader,) = [n for n in graph.node if "codes.transposed" in n.input]
    assert reader.op_type == "DequantizeLinear"
    assert [a.i for a in reader.attribute if a.name == "axis"] == [1]
    assert not [n for n in graph.node if n.op_type == "Transpose"]


def test_weights_and_bias_are_integers_in_the_file(tmp_path: Path) -> None:
    program = program_of(Int8Net(), IMAGE)
    emit(program, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    kinds = {i.name: i.data_type for i in graph.initializer}
    assert kinds["first.codes"] == onnx.TensorProto.INT8
    assert kinds["first.bias"] == onnx.TensorProto.INT32
    big = [i for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT and np.prod(i.dims) > 8]
    assert not big
    assert "GlobalAveragePool" in {n.op_type for n in graph.node}


def test_a_narrow_activation_range_is_clipped(tmp_path: Path) -> None:
    def narrow(x: Tensor) -> Tensor:
        return qdq.DEQUANTIZE_TENSOR(qdq.QUANTIZE_TENSOR(x, 0.01, 0, -127, 127, torch.int8), 0.01, 0)

    program = program_of(Fn(narrow), IMAGE)
    emit(program, tmp_path / "m.onnx")
    found = run(tmp_path / "m.onnx", IMAGE)
    np.testing.assert_array_equal(found, program.run_flat(IMAGE)[0].numpy())
    assert found.min() == np.float32(-127) * np.float32(0.01)


def test_int16_has_no_form_below_opset_21(tmp_path: Path) -> None:
    def wide(x: Tensor) -> Tensor:
        return qdq.DEQUANTIZE_TENSOR(qdq.QUANTIZE_TENSOR(x, 0.01, 0, -32768, 32767, torch.int16), 0.01, 0)

    with pytest.raises(LegalityError, match="opset 21"):
        emit(program_of(Fn(wide), IMAGE), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


class TakenOn(nn.Module):
    """A float output that is transposed and then quantized."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.tanh()
        return y, requantized(y.permute(0, 2, 3, 1)[:, 1:], 2**-4, 128)


def test_a_float_output_stays_float_where_its_transpose_is_quantized(tmp_path: Path) -> None:
    program = program_of(TakenOn(), IMAGE)
    emitted = emit(program, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    found = session.run(list(emitted.outputs), {emitted.inputs[0]: IMAGE.numpy()})
    wanted = program.run_flat(IMAGE)
    np.testing.assert_allclose(found[0], wanted[0].numpy(), atol=1e-6)
    np.testing.assert_array_equal(found[1], wanted[1].numpy())
