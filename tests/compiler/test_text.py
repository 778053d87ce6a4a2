"""Programs as text, and the structural hash."""

import torch
from torch import nn

from fxc.compiler.editor import Editor
from fxc.compiler.origin import Origin, set_origin
from fxc.compiler.text import dtype_name, node_text, program_text, structural_hash, value_text
from tests.passes.checks import Fn, captured

aten = torch.ops.aten
X = torch.randn(2, 3, 5, 5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).relu()


def _program(seed=0):
    torch.manual_seed(seed)
    return captured(nn.Sequential(Block()), X, dynamic=False)


def test_one_line_per_operator_with_layers_and_shapes():
    lines = program_text(_program()).splitlines()
    assert lines[0].endswith("= input : f32[2,3,5,5]")
    assert lines[1].startswith("%_0_conv = conv2d(%")
    assert "0.conv.weight, 0.conv.bias, [1, 1], [0, 0], [1, 1], 1) : f32[2,4,3,3]" in lines[1]
    assert lines[1].endswith("# 0.conv")
    assert lines[2].startswith("%_0_relu = relu(%_0_conv)")
    assert lines[3] == "return [%_0_relu]"


def test_values():
    assert value_text(torch.zeros(2, 3, dtype=torch.int8)) == "i8[2,3]"
    assert value_text((torch.zeros(1), torch.zeros(2, dtype=torch.bool))) == "(f32[1], b1[2])"
    assert value_text(7) == "7"
    assert dtype_name(torch.bfloat16) == "bfloat16"


def test_keyword_arguments_and_dtypes_are_written():
    program = captured(Fn(lambda m, x: nn.functional.gelu(x.double(), approximate="tanh")), X)
    text = program_text(program)
    assert "approximate='tanh'" in text
    assert "float64" in text


def test_a_tensor_line():
    node = next(n for n in _program().graph.nodes if n.op == "get_attr")
    assert node_text(node).endswith("= tensor 0.conv.weight : f32[4,3,3,3]")


def test_equal_programs_have_equal_hashes_and_equal_text():
    assert structural_hash(_program()) == structural_hash(_program())
    assert program_text(_program()) == program_text(_program())


def test_contents_count_only_if_asked_for():
    a, b = _program(0), _program(1)
    assert structural_hash(a) != structural_hash(b)
    assert structural_hash(a, contents=False) == structural_hash(b, contents=False)


def _edited(change):
    editor = Editor(_program(), "test")
    conv, relu = [n for n in editor.graph.nodes if n.op == "call_function"]
    change(conv, relu)
    return editor.finish()


def test_literals_operators_and_connections_count():
    base = structural_hash(_program())
    assert structural_hash(_edited(lambda conv, relu: None)) == base
    others = [
        _edited(lambda conv, relu: conv.update_arg(4, [1, 1])),
        _edited(lambda conv, relu: setattr(relu, "target", aten.sigmoid.default)),
        _edited(lambda conv, relu: relu.replace_all_uses_with(conv)),
        _edited(lambda conv, relu: conv.update_arg(6, 1.0)),
    ]
    assert len({structural_hash(p) for p in others} | {base}) == 5


def test_names_and_labels_do_not_count():
    renamed = _edited(lambda conv, relu: set_origin(conv, Origin("another name")))
    assert structural_hash(renamed) == structural_hash(_program())


def test_the_dtype_of_a_tensor_counts_even_without_contents():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    single = captured(model, X, dynamic=False)
    half = captured(model.bfloat16(), X.bfloat16(), dynamic=False)
    assert structural_hash(single, contents=False) != structural_hash(half, contents=False)
