"""What the dump says changed between two graphs made by hand."""

import torch

from fxc.tools.dump.diff import Difference, compare
from fxc.tools.dump.facts import operators
from fxc.tools.dump.scene import build_scene
from fxc.tools.dump.textdiff import unified
from tests.tools.dump_graphs import Maker, aten, conv_bn_relu, conv_tensors


def test_a_graph_does_not_differ_from_itself() -> None:
    tensors = conv_tensors()
    one, two = conv_bn_relu(tensors, norm=True), conv_bn_relu(tensors, norm=True)
    assert not compare(operators(one), operators(two))


def test_removing_a_node_removes_it_and_rewires_its_reader() -> None:
    tensors = conv_tensors()
    before, after = (operators(conv_bn_relu(tensors, norm=norm)) for norm in (True, False))
    difference = compare(before, after)
    assert difference == Difference(removed=("norm",), changed={"act": ("inputs",)})
    assert difference.rewired == ("act",)
    assert difference.rewritten == ()
    assert compare(after, before).added == ("norm",)


def test_new_values_under_an_old_name_are_a_change_of_their_reader() -> None:
    tensors = conv_tensors()
    folded = {**tensors, "block.conv.weight": tensors["block.conv.weight"] * 2}
    difference = compare(
        operators(conv_bn_relu(tensors, norm=False)), operators(conv_bn_relu(folded, norm=False))
    )
    assert dict(difference.changed) == {"conv": ("values",)}


def test_another_operator_is_a_change_and_a_literal_is_one() -> None:
    tensors = conv_tensors()
    before = operators(conv_bn_relu(tensors, norm=False))
    after = operators(conv_bn_relu(tensors, norm=False, relu=aten.silu.default))
    assert dict(compare(before, after).changed) == {"act": ("operator",)}

    def flatten(start: int) -> dict:
        make = Maker()
        return operators(make.done(make.call(aten.flatten.using_ints, make.x, start, name="flat")))

    assert dict(compare(flatten(1), flatten(2)).changed) == {"flat": ("arguments", "result")}


def test_result_type_counts_even_when_the_operator_does_not_change() -> None:
    def net(dtype: torch.dtype) -> dict:
        make = Maker()
        y = make.call(aten.to.dtype, make.x, dtype, name="cast")
        return operators(make.done(make.call(aten.neg.default, y, name="neg")))

    changed = compare(net(torch.float32), net(torch.float16)).changed
    assert changed["neg"] == ("result",)


def test_parameters_stand_in_their_reader_and_defaults_are_left_out() -> None:
    conv = operators(conv_bn_relu(conv_tensors(), norm=True))["conv"]
    assert [(p.argument, p.shape, p.dtype) for p in conv.parameters] == [("weight", "4×4×3×3", "float32")]
    assert conv.options == (("padding", "1"),)
    assert conv.shape == "1×4×8×8"


def test_a_weight_behind_a_dequantize_is_one_parameter() -> None:
    tensors = {
        "w": torch.ones(4, 4, 3, 3, dtype=torch.int8),
        "s": torch.ones(4),
        "z": torch.zeros(4, dtype=torch.int32),
    }
    make = Maker(tensors)
    weight = make.call(
        torch.ops.fxc.dequantize.channel,
        *(make.tensor(n) for n in ("w", "s", "z")),
        0,
        name="weight_dequantize",
    )
    found = operators(make.done(make.call(aten.conv2d.default, make.x, weight, name="conv")))
    assert list(found) == ["x", "conv", "output"]
    (parameter,) = found["conv"].parameters
    assert (parameter.path, parameter.dtype, parameter.code) == ("w", "int8", "per channel")


def test_a_removed_node_never_closes_a_cycle() -> None:
    """Before: a feeds b feeds c. After: c feeds a, b is gone; b's old edges cannot both be drawn."""
    first = Maker()
    a = first.call(aten.neg.default, first.x, name="a")
    b = first.call(aten.relu.default, a, name="b")
    before = operators(first.done(first.call(aten.abs.default, b, name="c")))
    second = Maker()
    c = second.call(aten.abs.default, second.x, name="c")
    after = operators(second.done(second.call(aten.neg.default, c, name="a")))
    edges = {(e.start, e.end): e.state for e in build_scene(after, before, compare(before, after)).edges}
    assert edges["c", "a"] == ""
    assert [edge for edge, state in edges.items() if state == "removed"] in ([("a", "b")], [("b", "c")])


def test_text_diff_applies() -> None:
    """The diff's context and minus lines are the old text's, context and plus lines the new one's."""
    old = [f"line {i}" for i in range(60)] + ["same"] * 5
    new = ["start", *old[:20], *old[24:40], "middle", *old[40:], "end"]
    lines = unified("\n".join(old), "\n".join(new))
    assert [line[1:] for line in lines if line[0] == "+"] == ["start", "middle", "end"]
    assert [line[1:] for line in lines if line[0] == "-"] == old[20:24]
    assert sum(line.startswith("@@") for line in lines) == 4
    assert unified("a\nb", "a\nb") == []
    assert unified("a", "b") == ["@@ -1,1 +1,1 @@", "-a", "+b"]
