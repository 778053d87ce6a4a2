"""Calibration as a thing of its own: everything that any target and any observer may ask of the data, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from fxc.compiler.config import QuantConfig
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.data import gather
from fxc.driver import annotated, begin, tuned
from fxc.fingerprint import fingerprint
from fxc.passes.quantize.calibrate import Calibration, wants
from fxc.passes.quantize.statistics import Statistics, Want
from fxc.request import Request, check_skip
from fxc.stages import Stages
from fxc.watch import Watch

_ON_LAST_AXIS = ("linear", "layer_norm", "matmul", "rms_norm")


def calibrate_model(model: Any, request: Request, targets: Sequence[Target], stages: Stages) -> Statistics:
    """Statistics of every float tensor of the optimized model, and of those that the targets' own passes make.

    Args:
        request: ``calibration_data`` is the data.
        targets: further programs come from their rooms' passes; a float target adds none.

    Raises:
        CaptureError, CalibrationError: as in :func:`fxc.calibrate`.
    """
    check_skip(request.skip)
    watch = Watch(verify=False, dump=None)
    start = begin(model, request, stages, watch)
    data = gather(start.trainable, request.calibration_data, wanted=True, image=request.image_input)
    quantized = [target for target in targets if target.quantized]

    def everything(program: Program) -> Calibration:
        plain = replace(request, config=QuantConfig())
        programs = [annotated(program, replace(plain, target=target)) for target in quantized]
        wanted = {name: want for p in (*programs, program) for name, want in _everything(p).items()}
        return Calibration([program, *programs], wanted, probing=program)

    start, run = tuned(start, data, request, everything, stages, watch)
    with stages("calibrate") as progress:
        run.over(data.rest, progress)
        found = run.statistics(data.source)
    found = replace(found, preprocessing=request.preprocessing or None)
    return replace(found, fingerprint=fingerprint(start.source, start.program), samples=data.tuning)


def _everything(program: Program) -> dict[str, Want]:
    """Every float tensor with more than one value in it, whether a scheme wants it or not: a user's word may."""
    nodes = {n.name: n for n in program.graph.nodes if n.op in ("placeholder", "call_function")}
    found = {name: Want(histogram=True) for name in wants(program)}
    return found | {name: Want(True, _channel_axis(n)) for name, n in nodes.items() if _is_float(n)}


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.dim() > 0


def _channel_axis(node: fx.Node) -> int | None:
    """Where this tensor's channels are, judged by who reads or makes it."""
    rank = node.meta["val"].dim()
    if rank < 2:
        return None
    names = {str(n.target).split(".")[1] for n in (node, *node.users) if n.op == "call_function"}
    return -1 if rank == 2 or names & set(_ON_LAST_AXIS) else 1
