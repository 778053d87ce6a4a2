"""Everything that can be wrong with an extension is refused before a compile starts, by its name."""

from typing import Any

import acme_fxc
import acme_fxc.ops
import acme_fxc.rules
import pytest
import torch
from acme_fxc.lowering import LOWERINGS
from acme_fxc.target import ACME_FP32, ACME_INT8
from torch import Tensor, fx

import fxc
from fxc import Extension, catalogue
from fxc.compiler.editor import Editor
from fxc.compiler.errors import CaptureError, PassError, UsageError
from fxc.compiler.rule import Rule

aten = torch.ops.aten
GATE = torch.ops.acme.soft_gate.default


def gate(g: Any, x: Any, strength: float) -> Any:
    return x


def gate_by_another_name(g: Any, value: Any, strength: float) -> Any:
    return value


def anything(g: Any, *args: Any) -> Any:
    return args[0]


class Anchorless(Rule):
    """x -> x"""

    name = "anchorless"
    anchors = ()

    def rewrite(self, match: Any, editor: Editor) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"name": ""}, "cannot be called ''"),
        ({"name": "acme chips"}, "cannot be called 'acme chips'"),
        ({"name": 3}, "cannot be called 3"),
        ({"version": 3}, "version takes text"),
        ({"tolerance": -1.0}, "tolerance takes a relative error"),
        ({"tolerance": True}, "tolerance takes a relative error"),
        ({"tolerance": float("nan")}, "tolerance takes a relative error"),
        ({"lowerings": [gate]}, "lowerings: takes a mapping from operator to function, got list"),
        ({"lowerings": {"acme.soft_gate": gate}}, "'acme.soft_gate' is no operator overload"),
        ({"lowerings": {torch.ops.acme.soft_gate: gate}}, "torch.ops.acme.soft_gate.default is one"),
        ({"lowerings": {acme_fxc.ops.soft_gate: gate}}, "torch.ops.acme.soft_gate.default is one"),
        ({"lowerings": {GATE: "gate"}}, "'gate', which is no function"),
        (
            {"lowerings": {GATE: gate_by_another_name}},
            "takes value, which acme.soft_gate.default does not have",
        ),
        ({"lowerings": {GATE: gate_by_another_name}}, "it has x, strength"),
        ({"lowerings": {GATE: anything}}, "must name its parameters"),
        ({"lowerings": {GATE: lambda: None}}, "must name its parameters"),
        ({"overrides": {GATE: anything}}, "overrides: anything must name its parameters"),
        ({"rules": Anchorless()}, "takes a tuple of rules, got Anchorless"),
        ({"rules": (acme_fxc.rules.DoubleFlip,)}, "give an instance, DoubleFlip()"),
        ({"rules": (gate,)}, "is no fxc.compiler.rule.Rule"),
        ({"rules": (Anchorless(),)}, "anchorless has no anchors"),
        ({"targets": [ACME_INT8]}, "targets takes a tuple of Target values"),
        ({"targets": ("acme-int8",)}, "targets takes a tuple of Target values"),
        ({"targets": (ACME_INT8, ACME_INT8)}, "two targets are called 'acme-int8'"),
        ({"rooms": ["acme"]}, "rooms takes a mapping"),
        ({"operators": ("acme.soft_gate",)}, "'acme.soft_gate' is no operator overload"),
        ({"lowerings": "acme_fxc.lowering"}, "'acme_fxc.lowering' is no reference"),
    ],
)
def test_a_part_that_cannot_be_is_refused_where_it_is_made(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Extension(**{"name": "acme", **words})
    assert said in str(caught.value)
    if isinstance(words.get("name", "acme"), str) and "name" not in words:
        assert "extension acme: " in str(caught.value)


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        (Extension("e", lowerings="acme_fxc.nowhere:LOWERINGS"), "ModuleNotFoundError"),
        (Extension("e", lowerings="acme_fxc.lowering:NOWHERE"), "AttributeError"),
        (Extension("e", rules="acme_fxc.lowering:LOWERINGS"), "rules: takes a tuple of rules, got dict"),
        (Extension("e", rules="acme_fxc.ops:__name__"), "is text, not rules"),
        (Extension("e", targets=(ACME_FP32,)), "target acme-fp32 needs a backend room 'acme'"),
        (
            Extension("e", rooms={"acme": "acme_fxc.nowhere"}),
            "room 'acme' cannot be found in acme_fxc.nowhere",
        ),
        (Extension("e", rooms={"acme": "acme_fxc"}), "room 'acme' in acme_fxc has no module"),
        (Extension("e", rooms={"ort": "acme_fxc.room"}), "room 'ort' is in use"),
        (Extension("e", lowerings={aten.relu.default: lambda g, self: self}), "put it under overrides"),
        (Extension("e", overrides={GATE: gate}), "put it under lowerings"),
    ],
)
def test_what_does_not_fit_fxc_is_refused_before_capture(extension: Extension, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        fxc.compile("never looked at", "cpu-fp32", extensions=[extension])
    assert said in str(caught.value)
    assert "extension e" in str(caught.value)


def test_a_target_of_fxc_cannot_be_replaced() -> None:
    from dataclasses import replace

    extension = Extension("e", targets=(replace(ACME_INT8, name="cpu-int8"),))
    with pytest.raises(UsageError, match="target 'cpu-int8' is in use") as caught:
        catalogue.with_extensions([extension])
    assert caught.value.why == "fxc has it"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Extension("acme"), "two extensions are called 'acme'"),
        (Extension("other", lowerings={GATE: gate}), "extension acme lowers acme.soft_gate.default too"),
        (Extension("other", targets=(ACME_INT8,)), "target 'acme-int8' is in use"),
        (Extension("other", rooms={"acme": "acme_fxc.room"}), "room 'acme' is in use"),
    ],
)
def test_two_extensions_that_clash_are_refused(other: Extension, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalogue.with_extensions([acme_fxc.EXTENSION, other])
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [["acme"], [acme_fxc], "acme"])
def test_something_else_than_an_extension(given: Any) -> None:
    with pytest.raises(UsageError, match=r"takes fxc\.Extension values"):
        catalogue.with_extensions(given)


def test_a_pipelines_text_needs_its_extension() -> None:
    with pytest.raises(UsageError, match="unknown extension 'acme'"):
        catalogue.pipeline("extension{of=acme}")


class Halving(Rule):
    """flip_channels(x) -> x / 2"""

    name = "halving"
    anchors = (torch.ops.acme.flip_channels.default,)

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """A rule that is wrong."""
        with editor.before(match):
            half = editor.call(aten.mul.Tensor, (match.args[0], 0.5), origins=(match,))
        editor.replace(match, half)


class Crashing(Halving):
    """flip_channels(x) -> a crash"""

    name = "crashing"

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """A rule that fails."""
        raise KeyError("chip")


class Valueless(Halving):
    """flip_channels(x) -> flip_channels(x), made behind the editor's back"""

    name = "valueless"

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """A rule that makes a node without a value."""
        with editor.before(match):
            made = editor.graph.call_function(match.target, match.args)
        editor.replace(match, made)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Halving(), "extension{of=e} promised close numbers"),
        (Crashing(), "rule 'crashing' of extension e failed"),
        (Crashing(), "KeyError: 'chip'"),
        (Valueless(), "it made a node without a value"),
    ],
)
def test_a_rule_that_fails_or_breaks_its_promise_is_named(
    rule: Rule, said: str, net: Any, image: Tensor
) -> None:
    extension = Extension("e", lowerings=LOWERINGS, rules=(rule,))
    with pytest.raises(PassError) as caught:
        fxc.compile(net, "ort-fp32", example_inputs=image, extensions=[extension])
    assert said in str(caught.value)


def test_a_rule_that_fails_can_be_left_out(net: Any, image: Tensor) -> None:
    extension = Extension("e", lowerings=LOWERINGS, rules=(Crashing(),))
    fxc.compile(net, "ort-fp32", example_inputs=image, extensions=[extension], skip=["extension"])


def crashing(g: Any, x: Any) -> Any:
    raise KeyError("chip")


def nothing(g: Any, x: Any) -> Any:
    """Forgets to return."""


def several(g: Any, x: Any) -> Any:
    return x, x


def declining(g: Any, x: Any) -> Any:
    g.refuse("Acme's chip flips only even widths")


def unknown(g: Any, x: Any) -> Any:
    return g.op("FlipChannels", x)


@pytest.mark.parametrize(
    ("lowering", "said"),
    [
        (crashing, "KeyError: 'chip'"),
        (nothing, "it returned None"),
        (several, "not a tensor of the writer"),
        (declining, "flips only even widths"),
        (unknown, "No Op registered for FlipChannels"),
    ],
)
def test_a_lowering_that_fails_is_named(lowering: Any, said: str, net: Any, image: Tensor) -> None:
    flip = torch.ops.acme.flip_channels.default
    extension = Extension("e", lowerings={**LOWERINGS, flip: lowering})
    with pytest.raises(fxc.FxcError) as caught:
        fxc.compile(net, "ort-fp32", example_inputs=image, extensions=[extension])
    assert said in str(caught.value)
    assert "flip_channels" in str(caught.value)


def test_without_the_extension_the_operator_is_refused_with_the_way_out(net: Any, image: Tensor) -> None:
    with pytest.raises(fxc.FxcError, match="soft_gate") as caught:
        fxc.compile(net, "ort-fp32", example_inputs=image)
    assert "acme.soft_gate has no lowering" in str(caught.value)
    assert "extensions=[…]" in str(caught.value)
    with pytest.raises(UsageError, match="unknown target 'acme-int8'") as unknown:
        fxc.compile(net, "acme-int8", example_inputs=image)
    assert "extensions=[…]" in str(unknown.value)


def wrong(g: Any, x: Any) -> Any:
    return g.op("Neg", x)


def test_a_lowering_that_computes_something_else_is_in_the_report(net: Any, image: Tensor) -> None:
    flip = torch.ops.acme.flip_channels.default
    extension = Extension("e", lowerings={**LOWERINGS, flip: wrong})
    artifact = fxc.compile(net, "ort-fp32", example_inputs=image, extensions=[extension])
    warnings = [note["text"] for note in artifact.report["notes"] if note["kind"] == "warning"]
    assert any("from float" in text for text in warnings), warnings


@torch.library.custom_op("acme_test::halve", mutates_args=("x",))
def halve(x: Tensor) -> None:
    """In place."""
    x.mul_(0.5)


def test_an_operator_that_writes_into_its_arguments_is_refused(image: Tensor) -> None:
    class Halving(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            halve(y)
            return y

    with pytest.raises(CaptureError, match=r"acme_test\.halve\.default, which writes into its arguments"):
        fxc.capture(Halving(), image)
