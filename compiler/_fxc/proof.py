"""Measurements that back the report: SQNR, per layer and at the outputs, of two programs or of a file."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from fxc.compiler.execute import fast_order, lockstep, named
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.qdq import QUANTIZE_TENSOR
from fxc.passes.quantize.float_run import FloatRun
from fxc.passes.quantize.statistics import dense

ROUNDING_DB = 90.0
"""SQNR of two float32 computations of one network that differ by rounding: 1e-6 per operation, 3e-5 for deep ones."""

_BLOCK = 1 << 16


def sqnr_db(reference: Tensor, other: Tensor) -> float | None:
    """Signal to quantization-noise ratio in dB, ``20 log10(‖a‖ / ‖a - b‖)``.

    Returns:
        ``None`` if the reference vanishes (no statement is possible); 200 for equality.
    """
    signal, noise = _norm(reference), _norm(_difference(reference, other))
    if signal < 1e-20 or not math.isfinite(signal):
        return None
    if not math.isfinite(noise):
        return -200.0
    return min(200.0, 20.0 * math.log10(signal / noise)) if noise > 0 else 200.0


@dataclass(frozen=True)
class OutputProof:
    """How far one output is from the float program's.

    Attributes:
        name: of the output.
        graph_db: SQNR of the quantized graph, run in PyTorch.
        file_db: SQNR of the emitted file, read back from disk and run on this host.
        file: its name, if it is not the bundle's main one.
    """

    name: str
    graph_db: float | None
    file_db: float | None
    file: str = ""

    @property
    def lost_db(self) -> float:
        """How much worse the file is than the graph it was made from; negative if it is better.

        Both are cut at :data:`ROUNDING_DB`: above it they differ by the order of float additions only.
        """
        if self.graph_db is None or self.file_db is None:
            return 0.0
        return min(self.graph_db, ROUNDING_DB) - min(self.file_db, ROUNDING_DB)


def compare_outputs(
    program: Program, checked: Checked, outputs: tuple[Tensor, ...], file: str = ""
) -> list[OutputProof]:
    """One :class:`OutputProof` per output that is a float tensor, of what ``file`` computed."""
    rows = []
    for spec, a, b, c in zip(program.outputs, checked.float_outputs, checked.graph_outputs, outputs):
        if a.is_floating_point():
            rows.append(OutputProof(spec.name, sqnr_db(a, b), sqnr_db(a, c), file))
    return rows


@dataclass(frozen=True)
class Checked:
    """A float program and its quantized graph, run together on a few samples.

    Attributes:
        float_outputs, graph_outputs: flat.
        layers: SQNR of the wanted nodes' values, by node name; ``None`` where the float value vanishes.
        intermediates: codes of a few quantized tensors of the first sample, by layer, to compare a device's with.
    """

    float_outputs: tuple[Tensor, ...]
    graph_outputs: tuple[Tensor, ...]
    layers: dict[str, float | None] = field(default_factory=dict)
    intermediates: dict[str, Tensor] = field(default_factory=dict)


def check_graph(
    float_program: Program,
    program: Program,
    names: Collection[str],
    inputs: tuple[Tensor, ...],
    known: FloatRun | None = None,
) -> Checked:
    """Run both graphs once, in step.

    Args:
        program: the quantized graph; the float one itself for a float target, which then runs once.
        names: of the nodes whose SQNR is wanted.
        inputs: flat.
        known: what the float program computed on them, if that was kept: it does not run again then.
    """
    if program.graph_module is float_program.graph_module:
        alone = program.run_flat(*inputs)
        return Checked(alone, alone)
    golden = _golden_nodes(program)
    layers: dict[str, float | None] = {}
    codes: dict[str, Tensor] = {}
    outputs: Sequence[Tensor] = ()
    graph_outputs: Sequence[Tensor] = ()
    wanted, ordered = {*names, *golden}, fast_order(program, inputs)
    if known is None:
        pairs = lockstep(float_program, program, wanted, ordered)
    else:
        pairs = ((name, known.values.get(name), b) for name, b in named(program, wanted, ordered))
    for name, a, b in pairs:
        if not name:
            outputs, graph_outputs = ([y.contiguous() for y in ys] for ys in (a, b))
        elif name in golden:
            codes[label_of(golden[name])] = b
        elif a is not None:
            layers[name] = sqnr_db(a, b)
    samples = sorted(codes.items())
    return Checked(
        tuple(outputs), tuple(graph_outputs), layers, {k: _first_sample(v, program) for k, v in samples}
    )


def _golden_nodes(program: Program, count: int = 4) -> dict[str, fx.Node]:
    """A few quantizers spread over the network, by name; of those whose leading axis is the batch's, if any is dynamic."""
    codes = [n for n in program.graph.nodes if n.target is QUANTIZE_TENSOR and _leads_with_batch(n, program)]
    chosen = [codes[i * (len(codes) - 1) // max(count - 1, 1)] for i in range(count)] if codes else []
    return {node.name: node for node in chosen}


def _leads_with_batch(node: fx.Node, program: Program) -> bool:
    shape = node.meta["val"].shape
    batch = _batch(program)
    return batch is None or (len(shape) > 0 and str(shape[0]) == batch)


def _batch(program: Program) -> str | None:
    """The dynamic batch as the tracer calls it, ``None`` if every shape is fixed."""
    inputs = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder"]
    return next((str(s[0]) for s in inputs if s and not isinstance(s[0], int)), None)


def _first_sample(value: Tensor, program: Program) -> Tensor:
    return (value if _batch(program) is None else value[:1]).contiguous()


def _difference(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype is b.dtype is torch.float32:
        return a.detach() - b.detach()
    return a.detach().double() - b.detach().double()


def _norm(x: Tensor) -> float:
    """The 2-norm, to seven digits."""
    flat = dense(x.detach()).flatten()
    if flat.dtype is torch.float32:
        # A dot product is several times faster than a norm, and in blocks of this size as good.
        total = sum(float(torch.dot(block, block)) for block in flat.split(_BLOCK))
        if 1e-25 < total < 1e25:
            return math.sqrt(total)
    return float(flat.double().norm())
