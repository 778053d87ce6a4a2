"""Quantized graphs against the files made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, fx

from fxc.compiler.macs import TRANSPOSED
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.compiler.record import record as recorded
from tests.conformance.layerwise import cut
from tests.random.rounding import left_open

if TYPE_CHECKING:
    from tests.random.check import Record

SAME = 1e-4
"""Relative distance of two right float results."""
LEAST = 1e-2
"""Size below which a value is not held against itself: it is of useful size over all rows only."""
ALIKE_DB = 1.0
ENOUGH_DB = 45.0
"""Above this the noise is that of single codes, and of how sums are rounded."""
MOST_DIFFER = 0.02
"""Share of a tensor's codes that may differ by one, beside three of them."""
_CLAMPS = (torch.ops.aten.clamp.default, torch.ops.aten.hardtanh.default)
_ON_CODES = (
    *_CLAMPS, torch.ops.aten.relu.default, torch.ops.aten.reshape.default, torch.ops.aten.permute.default,
    torch.ops.aten.slice.Tensor, torch.ops.aten.select.int, torch.ops.aten.squeeze.dims, torch.ops.aten.unsqueeze.default,
    torch.ops.aten.max_pool2d.default,
)  # fmt: skip
JITTER = 0.03
"""Codes by which two right computations of one tensor may differ before it is rounded: tied sums, fused scales."""
Limits: TypeAlias = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Lowest and highest code of every element that float rounding may lead to; asked for only where codes differ."""


def same_codes(
    stage: str,
    path: Path,
    program: Program,
    rows: tuple[Tensor, ...],
    names: Mapping[str, str],
    record: Record,
) -> list[tuple[int | None, str, str]]:
    """Every quantized tensor within one code, and every output within rounding, from the graph's own codes.

    What float rounding leaves open (:mod:`tests.random.rounding`) is no difference.

    Returns:
        What differs: the output's number (``None`` for a tensor inside), its name and the reason.
    """
    original = onnx.load(path)
    model, tensors = cut(original)
    # What nothing reads is not in the file.
    live = [n for n in program.graph.nodes if n.target is QUANTIZE_TENSOR and label_of(n) in names]
    quantizers = {names[label_of(n)]: n.name for n in live}
    # ONNX Runtime quantizes the float weights of a transposed convolution between integers by itself.
    most = 1.0 if any(n.target in TRANSPOSED for n in program.graph.nodes) else MOST_DIFFER
    values = recorded(program, {n.name for n in program.graph.nodes if n.target is QUANTIZE_TENSOR}, rows)
    if len(quantizers) < len(live):
        raise AssertionError(f"{len(live)} quantized tensors have {len(quantizers)} names")
    codes = {name: values[quantizers[name]].numpy() for name in tensors}
    outputs = [o for o in original.graph.output if o.name not in codes]
    model.graph.output.extend(outputs)
    session = ort.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    feed = {i.name: x.numpy() for i, x in zip(original.graph.input, rows) if i.name in wanted}
    feed |= {f"{name}::in": value for name, value in codes.items() if f"{name}::in" in wanted}
    names_out = [*tensors, *(o.name for o in outputs)]
    results = dict(zip(names_out, session.run(names_out, feed))) if names_out else {}
    is_open = cache(partial(left_open, program, rows, values))
    found: list[tuple[int | None, str, str | None]] = []
    for name in tensors:
        node = quantizers[name]
        reason = _one_code(stage, codes[name], results[name], record, most, lambda n=node: is_open().codes[n])
        found.append((None, name, reason))
    for i, (spec, want) in enumerate(zip(original.graph.output, program.run_flat(*rows))):
        if spec.name in results:
            got = results[spec.name]
            reason = _same_output(stage, want.numpy(), got, record, lambda i=i: is_open().outputs[i])
            found.append((i, spec.name, reason))
    return [(i, name, reason) for i, name, reason in found if reason]


def _options() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def _one_code(
    stage: str, want: np.ndarray, got: np.ndarray, record: Record, most: float, limits: Limits
) -> str | None:
    if want.shape != got.shape:
        return f"shape {got.shape}, the graph has {want.shape}"
    gap = np.abs(want.astype(np.int64) - got.astype(np.int64))
    record.counts[f"{stage} tensors"] += 1
    record.counts[f"{stage} codes"] += gap.size
    record.counts[f"{stage} codes that differ"] += int((gap > 0).sum())
    if not _few(gap, most):
        low, high = limits()
        either = (gap > 0) & (low <= got) & (got <= high)
        record.counts[f"{stage} codes left open"] += int(either.sum())
        gap[either] = 0
    record.saw(f"{stage} codes", int(gap.max(initial=0)))
    reason = f"differs by {gap.max(initial=0)} codes, in {(gap > 0).sum()} of {gap.size} places"
    return None if _few(gap, most) else reason


def _few(gap: np.ndarray, most: float) -> bool:
    return int(gap.max(initial=0)) <= 1 and int((gap > 0).sum()) <= max(3, most * gap.size)


def _same_output(
    stage: str, want: np.ndarray, got: np.ndarray, record: Record, moves: Callable[[], np.ndarray]
) -> str | None:
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)}, the graph has {want.dtype}{list(want.shape)}"
    if want.dtype.kind != "f":
        differ = (want != got).sum()
        if differ > 0.01 * want.size:
            differ = ((want != got) & (moves() == 0)).sum()
        return f"{differ} of {want.size} values differ" if differ > 0.01 * want.size else None
    error = _relative(np.abs(want - got), want)
    if not error <= SAME:
        error = _relative(np.maximum(np.abs(want - got) - moves(), 0.0), want)
    record.saw(f"{stage} outputs", error)
    return f"off by {error:.3g} from the same codes" if not error <= SAME else None


def _relative(gap: np.ndarray, want: np.ndarray) -> float:
    return float(gap.max() / max(np.abs(want).max(), LEAST))


def not_alike(
    want: Tensor, graph: Tensor, file: Tensor, quantized: Program, rows: tuple[Tensor, ...], index: int
) -> str | None:
    """Why the file is worse than the graph, or ``None``.

    Small outputs are few codes, and a runtime that rounds a tie the other way moves them by more than the bar of 1 dB.
    So what ties can do to this output is measured on the graph: it may be as far from float as the worst of a few runs
    in which every tensor is moved by a fraction of a code before it is rounded, and clamps of codes end at codes.
    """
    own, found = _db(want, graph), _db(want, file)
    if found >= min(own, ENOUGH_DB) - ALIKE_DB:
        return None
    jittered = [_db(want, _jittered(quantized, rows, seed)[index]) for seed in range(4)]
    if found >= min(own, *jittered) - ALIKE_DB:
        return None
    tied = min(jittered)
    return f"{found:.1f} dB, the graph has {own:.1f}, with ties moved {tied:.1f}"


def _db(want: Tensor, got: Tensor) -> float:
    """Signal over noise; a value of useful size may vanish in a single row, and is then held against the least."""
    noise = float((want.double() - got.double()).norm())
    signal = max(float(want.double().norm()), LEAST)
    return math.inf if noise == 0.0 else 20.0 * math.log10(signal / noise)


def _jittered(program: Program, rows: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(_Jitter(program.graph_module, seed).run(*rows, enable_io_processing=False))


class _Jitter(fx.Interpreter):
    """What another right order of rounding may give.

    OpenVINO clamps codes, not values, so the bounds are rounded to codes.
    """

    def __init__(self, graph_module: fx.GraphModule, seed: int):
        super().__init__(graph_module)
        self.generator = torch.Generator().manual_seed(seed)
        self.rounding = math.trunc if seed % 2 else round
        self.scale: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        first = n.args[0] if n.args else None
        if n.target is DEQUANTIZE_TENSOR:
            self.scale[n] = float(n.args[1])  # type: ignore[arg-type]
        elif n.target in _ON_CODES and first in self.scale:
            self.scale[n] = self.scale[first]
            if n.target in _CLAMPS:
                step = self.scale[n]
                bounds = [v if v is None else self.rounding(v / step) * step for v in n.args[1:3]]  # type: ignore[operator]
                return torch.clamp(self.env[first], *bounds)
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is QUANTIZE_TENSOR:
            noise = torch.rand(args[0].shape, generator=self.generator) * 2 - 1
            args = (args[0] + JITTER * args[1] * noise, *args[1:])
        return super().call_function(target, args, kwargs)
