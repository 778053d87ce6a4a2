"""Which program calibration statistics belong to, and whether they hold what a target needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fxc.compiler.errors import CalibrationError
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.quantize.calibrate import wants
from fxc.passes.quantize.statistics import Statistics


def fingerprint(source: Program, optimized: Program) -> str:
    """SHA-256 of the captured graph, its weights, and the passes that the optimized program went through.

    The optimized program's own numbers do not count: folding may round differently on another machine.
    """
    text = "\n".join((structural_hash(source), *optimized.history))
    return hashlib.sha256(text.encode()).hexdigest()


def usable(statistics: Statistics, own: str, annotated: Iterable[Program]) -> None:
    """Check that ``statistics`` are of this program and hold every tensor that the annotated programs want.

    Raises:
        CalibrationError: of another program, or without a tensor or histogram that is needed.
    """
    if statistics.fingerprint and statistics.fingerprint != own:
        raise CalibrationError(
            "these calibration statistics belong to another program",
            why="its graph, its weights or the optimization passes differ from those that were calibrated",
            fix="calibrate this model again, with the same skip and extensions",
        )
    for program in annotated:
        for name, want in wants(program).items():
            known = statistics.tensors.get(name)
            if known is None or not known.batches:
                raise CalibrationError(
                    f"the calibration statistics lack the tensor {name}",
                    why="the target rewrites the program there, and was not among the targets that were calibrated for",
                    fix="fxc.calibrate(model, data, targets=[…]) with this target",
                )
            if want.histogram and known.histogram is None:
                raise CalibrationError(
                    f"the calibration statistics hold no histogram of {name}",
                    why="the observer that was asked for needs one, and the statistics were made without, or merged "
                    "with others that have none",
                    fix="calibrate again, or use observer minmax or moving_average",
                )
