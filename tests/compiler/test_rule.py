"""Rules and the editor: matching, declining with a reason, and what a rewrite may not leave behind."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from fxc.compiler.editor import Editor, has_effect
from fxc.compiler.errors import PassError
from fxc.compiler.origin import label_of, origin_of
from fxc.compiler.rule import RewritePass, Rule, apply_rules, producer, sole_user
from fxc.compiler.text import program_text, structural_hash
from tests.compiler.saved_programs import conv_program
from tests.passes.checks import Fn, canonical, operators

aten = torch.ops.aten
X = torch.randn(2, 3)


class Drop(Rule):
    """neg(neg(x)) -> x"""

    name = "drop_double_negation"
    anchors = (aten.neg.default,)

    def match(self, node, editor):
        return None if producer(node.args[0], aten.neg.default) is None else node

    def check(self, match, editor):
        return "the inner one has another reader" if sole_user(match.args[0]) is None else None

    def rewrite(self, match, editor):
        inner = match.args[0]
        editor.replace(match, inner.args[0])
        editor.erase(inner)


class ReluToSigmoid(Rule):
    """relu(x) -> sigmoid(x)"""

    name, anchors = "a", (aten.relu.default,)

    def rewrite(self, match, editor):
        editor.retarget(match, aten.sigmoid.default, match.args)


class ReluToTanh(ReluToSigmoid):
    """relu(x) -> tanh(x)"""

    def rewrite(self, match, editor):
        editor.retarget(match, aten.tanh.default, match.args)


@dataclass(frozen=True)
class DropAll(RewritePass):
    name: ClassVar[str] = "drop_all"
    rules: ClassVar[tuple[Rule, ...]] = (Drop(),)


def test_a_match_is_rewritten_and_the_input_stays():
    program = canonical(Fn(lambda m, x: x.neg().neg().relu()), X)
    text = program_text(program)
    result = DropAll().apply(program)
    assert result.modified
    assert operators(result.program) == ["relu"]
    assert program_text(program) == text


def test_a_near_miss_is_a_note_with_its_layer():
    program = canonical(Fn(lambda m, x: (lambda y: -y + y)(-x)), X)
    result = DropAll().apply(program)
    assert not result.modified
    assert result.program is program
    (note,) = result.notes
    assert (note.kind, note.by, note.layer) == ("declined", "drop_all", "neg_1")
    assert "another reader" in note.text


def test_without_an_anchor_nothing_is_copied():
    program = canonical(nn.Sequential(nn.ReLU()), X)
    assert DropAll().apply(program).program is program


def test_a_rule_does_not_see_a_node_that_another_rule_changed():
    editor = Editor(canonical(nn.Sequential(nn.ReLU()), X), "test")
    apply_rules(editor, (ReluToSigmoid(), ReluToTanh()))
    assert operators(editor.finish()) == ["sigmoid"]


def test_rules_meet_four_negations_in_one_walk():
    result = DropAll().apply(canonical(Fn(lambda m, x: x.neg().neg().neg().neg().relu()), X))
    assert operators(result.program) == ["relu"]


def test_the_editor_keeps_values_and_origins():
    program = canonical(nn.Sequential(nn.Linear(3, 4)), X)
    editor = Editor(program, "test")
    linear = next(n for n in editor.graph.nodes if n.op == "call_function")
    with editor.after(linear):
        relu = editor.call(aten.relu.default, (linear,), origins=(linear,), suffix=".relu")
    assert str(relu.meta["val"].shape[1]) == "4"
    origin = origin_of(relu)
    assert (origin.label, origin.made_by, origin.layers) == ("0.relu", "test", origin_of(linear).layers)


def test_constants_get_names_of_their_own():
    editor = Editor(canonical(nn.Sequential(nn.Linear(3, 4)), X), "test")
    node = next(n for n in editor.graph.nodes if n.op == "call_function")
    with editor.before(node):
        names = [str(editor.constant(torch.ones(2), "a.b", origins=(node,)).target) for _ in range(2)]
    assert names == ["_fxc.a_b", "_fxc.a_b_1"]


def test_a_new_tensor_under_an_old_name_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(3, 4))
    program = canonical(model, X)
    editor = Editor(program, "test")
    weight = next(n for n in editor.graph.nodes if n.op == "get_attr" and n.target == "0.weight")
    editor.set_tensor(weight, torch.zeros(4, 3))
    changed = editor.finish()
    assert not changed.tensor("0.weight").any()
    assert torch.equal(program.tensor("0.weight"), model[0].weight)


def test_sweep_keeps_what_has_an_effect():
    assert not has_effect(aten.relu.default)
    assert has_effect(aten.relu_.default)
    assert has_effect(aten._assert_async.msg)


def test_a_malformed_graph_is_named_by_its_pass():
    editor = Editor(canonical(Fn(lambda m, x: x.relu().sigmoid()), X), "careless")
    relu, sigmoid = [n for n in editor.graph.nodes if n.op == "call_function"]
    sigmoid.append(relu)
    with pytest.raises(PassError, match="careless left a malformed graph"):
        editor.finish()


def test_retarget_and_absorb_keep_the_label():
    editor = Editor(canonical(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), X), "test")
    linear, relu = [n for n in editor.graph.nodes if n.op == "call_function"]
    editor.absorb(linear, relu)
    editor.retarget(relu, aten.sigmoid.default, relu.args)
    assert (label_of(linear), label_of(relu)) == ("0", "1")
    assert set(origin_of(linear).layers) == {"0", "1"}
    assert operators(editor.finish()) == ["linear", "sigmoid"]


def test_an_unchanged_editor_gives_the_same_program_again():
    program = conv_program()
    editor = Editor(program, "test")
    assert not editor.modified
    assert structural_hash(editor.finish()) == structural_hash(program)
