"""``bias_correction``: what quantization moves the mean of a layer's output by is taken back out of its bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.errors import PassError
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR
from fxc.passes.quantize.probe import channel_axis

METHODS = ("none", "analytic", "empirical")


@dataclass(frozen=True)
class BiasCorrection(Pass):
    """Correct the biases of quantized convolutions and linear layers.

    ``analytic``: rounding the weights moved the output's mean by ``sum((w_q - w) * E[x])``, with ``E[x]`` per channel
    from calibration (Nagel et al. 2019, arXiv:1906.04721, section 4.2); borders count as the inside does.

    ``empirical``: the mean of the float program's output less that of the quantized one's, per channel, on a few samples.
    Both programs run once: each layer is corrected before the layers behind it run, so they see what is left. A channel's
    shift is trusted as far as it stands out of its standard error over the samples.

    Options:
        method: ``analytic`` or ``empirical``.
        new_bias: what a layer without a bias gets, ``int32`` codes or ``float``.
        reference: the float program that was quantized.
        samples: flat inputs (empirical).
        means: channel means of what layers read in the reference, by node name (analytic): those of
            :func:`fxc.passes.quantize.probe.probe`.
    """

    name: ClassVar[str] = "bias_correction"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"quantized"})
    ensures: ClassVar[frozenset[str]] = frozenset({"biases_corrected"})
    method: str = "empirical"
    new_bias: str = "int32"
    reference: Program | None = field(default=None, compare=False)
    samples: tuple[Tensor, ...] = field(default=(), compare=False)
    means: Mapping[str, Tensor] = field(default_factory=dict, compare=False)

    def apply(self, program: Program) -> PassResult:
        """Change bias constants only; a layer without a bias gets one.

        Raises:
            PassError: an unknown method, or no reference, samples or means to correct with.
        """
        if "biases_corrected" in program.facts:
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        layers = {node.name: node for node in editor.graph.nodes if _is_quantized(node)}
        if not layers:
            return PassResult(program, modified=False)
        shifts = self._shifts(program, editor, layers)
        moved = 0.0
        total = 0.0
        for name, shift in shifts.items():
            moved += float(shift.square().sum())
            total += float(_bias_value(editor, layers[name]).square().sum())
            _add(editor, layers[name], shift, coded=self.new_bias == "int32")
        if not shifts:
            return PassResult(program, modified=False, notes=tuple(editor.notes))
        share = (moved / total) ** 0.5 if total else 0.0
        editor.note(
            f"{len(shifts)} biases corrected ({self.method}): a shift of {share:.2%} of the biases' norm taken out"
        )
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))

    def _shifts(self, program: Program, editor: Editor, layers: Mapping[str, fx.Node]) -> dict[str, Tensor]:
        if self.reference is None:
            raise PassError("bias correction needs the float program", fix="BiasCorrection(reference=…)")
        if self.method == "analytic":
            return _analytic(editor, layers, self.reference, self.means)
        if self.method != "empirical":
            raise PassError(f"unknown bias correction {self.method!r}", fix="analytic or empirical")
        if not self.samples:
            raise PassError("empirical bias correction needs samples", fix="BiasCorrection(samples=…)")
        return _empirical(program, set(layers), self.reference, self.samples)


_LAYERS = (*CONVOLUTIONS, *LINEAR)


def _is_quantized(node: fx.Node) -> bool:
    return (
        node.target in _LAYERS
        and isinstance(node.args[1], fx.Node)
        and node.args[1].target in DEQUANTIZE
        and isinstance(node.args[0], fx.Node)
        and node.args[0].target is DEQUANTIZE_TENSOR
    )


def _rank(node: Any) -> int:
    return int(node.meta["val"].dim())


# -- empirical -------------------------------------------------------------------------------------------------------


def _empirical(
    program: Program, layers: set[str], reference: Program, samples: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    wanted: dict[str, Tensor] = {}

    def remember(node: fx.Node, y: Tensor) -> Tensor:
        wanted[node.name] = _means(node, y)
        return y

    shifts: dict[str, Tensor] = {}

    def correct(node: fx.Node, y: Tensor) -> Tensor:
        if node.name not in wanted:
            return y
        shift = _trusted(wanted[node.name] - _means(node, y))
        shifts[node.name] = shift
        shape = [1] * y.dim()
        shape[channel_axis(node)] = -1
        return y + shift.to(y.dtype).reshape(shape)

    with torch.no_grad():
        _Hook(reference.graph_module, layers, remember).run(*samples, enable_io_processing=False)
        _Hook(program.graph_module, layers, correct).run(*samples, enable_io_processing=False)
    return {name: shift for name, shift in shifts.items() if bool(shift.any())}


class _Hook(fx.Interpreter):
    def __init__(
        self, graph_module: fx.GraphModule, layers: set[str], hook: Callable[[fx.Node, Tensor], Tensor]
    ):
        super().__init__(graph_module)
        self.layers, self.hook = layers, hook

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        return self.hook(n, result) if n.name in self.layers else result


def _means(node: fx.Node, y: Tensor) -> Tensor:
    """Channel means ``[samples, C]``, float64; the first axis that is not the channels' counts as samples."""
    y = y.movedim(channel_axis(node), -1)
    return y.reshape(y.shape[0], -1, y.shape[-1]).mean(1).double()


def _trusted(difference: Tensor) -> Tensor:
    """Mean over samples of ``[samples, C]``, each channel shrunk by the share that its standard error explains."""
    count = difference.shape[0]
    shift = difference.mean(0)
    if count < 2:
        return shift
    error = difference.var(0) / count
    return shift * (1.0 - error / shift.square().clamp_min(1e-30)).clamp_min(0.0)


# -- analytic --------------------------------------------------------------------------------------------------------


def _analytic(
    editor: Editor, layers: Mapping[str, fx.Node], reference: Program, means: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    floats = {node.name: node for node in reference.graph.nodes if node.name in layers}
    shifts = {}
    for name, node in layers.items():
        origin = floats.get(name)
        if origin is None:
            continue
        source = origin.args[0]
        mean = means.get(source.name)  # type: ignore[union-attr]
        if mean is None:
            editor.note(f"no channel means of its input {label_of(source)}", kind="declined", node=node)  # type: ignore[arg-type]
            continue
        before = reference.tensor(str(origin.args[1].target)).detach()  # type: ignore[union-attr]
        # Exact in float32: a weight and the code nearest to it are within a factor of two, or the code is zero.
        moved = _weight_value(editor, node) - before
        groups = int(node.args[6]) if node.target in CONVOLUTIONS else 1  # type: ignore[call-overload]
        shifts[name] = -_response(moved, mean, groups)
    return shifts


def _response(weight: Tensor, mean: Tensor, groups: int) -> Tensor:
    """What a layer with this ``weight`` makes of an input that is ``mean`` per channel everywhere: ``[out]``, float64."""
    taps = weight[0, 0].numel()
    # [out, in / groups, …]: the rows of group g read input channels g * in / groups and on.
    grouped = weight.double().reshape(groups, weight.shape[0] // groups, -1)
    return (grouped @ mean.repeat_interleave(taps).reshape(groups, -1, 1)).reshape(-1)


def _weight_value(editor: Editor, node: fx.Node) -> Tensor:
    return _dequantized(editor, node.args[1])


def _dequantized(editor: Editor, node: Any) -> Tensor:
    if node.target is DEQUANTIZE_TENSOR:
        codes, scale, zero = node.args
        return DEQUANTIZE_TENSOR(editor.tensor(codes), scale, zero)
    if node.target is DEQUANTIZE_CHANNEL:
        codes, scale, zero, axis = node.args
        return DEQUANTIZE_CHANNEL(editor.tensor(codes), editor.tensor(scale), editor.tensor(zero), axis)
    return editor.tensor(node).detach()


# -- writing ---------------------------------------------------------------------------------------------------------


def _bias_value(editor: Editor, node: fx.Node) -> Tensor:
    bias = node.args[2]
    if bias is None:
        return torch.zeros(1)
    return _dequantized(editor, bias)


def _add(editor: Editor, node: fx.Node, shift: Tensor, *, coded: bool) -> None:
    """Bias plus ``shift``; an int32 bias keeps its scale, a new one is ``coded`` or float."""
    bias = node.args[2]
    if bias is None and coded:
        _create(editor, node, shift)
    elif bias is None:
        _set_float(editor, node, shift)
    elif bias.target in DEQUANTIZE:  # type: ignore[union-attr]
        codes, scale = bias.args[:2]  # type: ignore[union-attr]
        step = editor.tensor(scale).double()  # type: ignore[arg-type]
        value = editor.tensor(codes).double() + (shift / step).round()  # type: ignore[arg-type]
        editor.set_tensor(codes, value.clamp(-(2**31), 2**31 - 1).to(torch.int32))  # type: ignore[arg-type]
    else:
        _set_float(editor, node, editor.tensor(bias).detach().double() + shift)  # type: ignore[arg-type]


def _set_float(editor: Editor, node: fx.Node, value: Tensor) -> None:
    with editor.before(node):
        node.update_arg(2, editor.constant(value.float(), f"{label_of(node)}.bias", origins=(node,)))


def _create(editor: Editor, node: fx.Node, shift: Tensor) -> None:
    """A bias for a layer that has none, in the accumulator's own steps: input scale times weight scales."""
    weight, activation = node.args[1], node.args[0]
    assert isinstance(weight, fx.Node)
    assert isinstance(activation, fx.Node)
    if weight.target is DEQUANTIZE_CHANNEL:
        scales = editor.tensor(weight.args[1])  # type: ignore[arg-type]
    else:
        scales = torch.full((shift.numel(),), float(weight.args[1]))  # type: ignore[arg-type]
    steps = (scales * torch.tensor(float(activation.args[1]))).to(torch.float32)  # type: ignore[arg-type]
    codes = (shift / steps.double()).round().clamp(-(2**31), 2**31 - 1).to(torch.int32)
    name = f"{label_of(node)}.bias"
    with editor.before(node):
        nodes = (
            editor.constant(codes, f"{name}.codes", origins=(node,)),
            editor.constant(steps, f"{name}.scale", origins=(node,)),
            editor.constant(
                torch.zeros_like(steps, dtype=torch.int32), f"{name}.zero_point", origins=(node,)
            ),
        )
        node.update_arg(2, editor.call(DEQUANTIZE_CHANNEL, (*nodes, 0), origins=(node,), suffix=".bias"))
