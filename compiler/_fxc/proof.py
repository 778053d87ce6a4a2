"""Measurements that back the report: SQNR, per layer and at the outputs, of two programs or of a file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.qdq import QUANTIZE_TENSOR
from fxc.compiler.record import record

ROUNDING_DB = 90.0
"""SQNR of two float32 computations of one network that differ by rounding: 1e-6 per operation, 3e-5 for deep ones."""


def sqnr_db(reference: Tensor, other: Tensor) -> float | None:
    """Signal to quantization-noise ratio in dB, ``20 log10(‖a‖ / ‖a - b‖)``.

    Returns:
        ``None`` if the reference vanishes (no statement is possible); 200 for equality.
    """
    a, b = reference.detach().double().flatten(), other.detach().double().flatten()
    signal, noise = float(a.norm()), float((a - b).norm())
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
    """

    name: str
    graph_db: float | None
    file_db: float | None

    @property
    def lost_db(self) -> float:
        """How much worse the file is than the graph it was made from; negative if it is better.

        Both are cut at :data:`ROUNDING_DB`: above it they differ by the order of float additions only.
        """
        if self.graph_db is None or self.file_db is None:
            return 0.0
        return min(self.graph_db, ROUNDING_DB) - min(self.file_db, ROUNDING_DB)


def compare_outputs(
    program: Program, reference: tuple[Tensor, ...], graph: tuple[Tensor, ...], file: tuple[Tensor, ...]
) -> list[OutputProof]:
    """One :class:`OutputProof` per output that is a float tensor."""
    rows = []
    for spec, a, b, c in zip(program.outputs, reference, graph, file):
        if a.is_floating_point():
            rows.append(OutputProof(spec.name, sqnr_db(a, b), sqnr_db(a, c)))
    return rows


def layer_sqnr(
    float_program: Program, quantized: Program, names: list[str], inputs: tuple[Tensor, ...]
) -> dict[str, float | None]:
    """SQNR of each named node's value in the quantized program against the float one."""
    want = record(float_program, names, inputs)
    got = record(quantized, names, inputs)
    return {name: sqnr_db(want[name], got[name]) for name in names if name in want and name in got}


def golden_intermediates(program: Program, inputs: tuple[Tensor, ...], count: int = 4) -> dict[str, Tensor]:
    """Codes of a few quantized tensors spread over the network, by layer, for comparison with a device's.

    Args:
        inputs: flat; only the first sample is used, to keep a bundle small.
    """
    codes = [n for n in program.graph.nodes if n.op == "call_function" and n.target is QUANTIZE_TENSOR]
    chosen = {codes[i * (len(codes) - 1) // max(count - 1, 1)].name for i in range(count)} if codes else set()
    values = record(program, chosen, program.first_rows(inputs, 1))
    return {label_of(n): values[n.name].contiguous() for n in codes if n.name in chosen}
