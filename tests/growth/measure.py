"""How the compiler's own time grows with the length of a network.

    python -m tests.growth.measure                      chains of 300 and 3,000 layers, and a graph of 100,000 nodes
    python -m tests.growth.measure --layers 100 1000 --nodes 0

Seconds are process time on one thread. A table per part: capture to Q/DQ of chains of conv, batch norm and relu
(PyTorch's own export apart), and the passes alone on a graph built by hand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from fxc import catalogue
from fxc.compiler.capture.build import build_program
from fxc.compiler.capture.export import Exported, export_model
from fxc.compiler.capture.inputs import example_of
from fxc.compiler.passbase import Pass
from fxc.compiler.program import Program
from fxc.passes.pipelines import canonical, simplify
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from tests.models.chains import chain, chain_program, example

TARGET = "cpu-int8"
EXPORT = "torch.export"

T = TypeVar("T")


@dataclass
class Clock:
    """Process seconds by step, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one step; steps of one name add up."""
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start

    @property
    def own(self) -> float:
        """Seconds of everything but PyTorch's export."""
        return sum(seconds for name, seconds in self.seconds.items() if name != EXPORT)


def run_chain(layers: int) -> Clock:
    """Capture a chain of `layers` and take it to Q/DQ."""
    model, clock = chain(layers), Clock()
    inputs = example_of(model, (example(),), None)
    with clock(EXPORT):
        exported: Exported = export_model(model, inputs, None)
    with clock("capture after export"):
        program = build_program(exported.program, one_batch=True)
    del exported
    quantize(program, clock)
    return clock


def run_graph(nodes: int) -> Clock:
    """Every pass up to Q/DQ on a graph of `nodes` operators built by hand."""
    clock = Clock()
    program = chain_program(nodes)
    quantize(program, clock)
    return clock


def quantize(program: Program, clock: Clock) -> Program:
    """From a captured program to Q/DQ, every step timed."""
    scheme = catalogue.target(TARGET).scheme
    assert scheme is not None
    for step in (*canonical(), *simplify(), Annotate(scheme)):
        program = _apply(program, step, clock)
    with clock("calibrate"):
        statistics = calibrate(program, [example()])
    return _apply(program, InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics), clock)


def _apply(program: Program, step: Pass, clock: Clock) -> Program:
    from fxc.compiler.pipeline import run_pipeline

    with clock(step.name):
        return run_pipeline(program, (step,))


def chain_table(short: int, long: int, run: Callable[[int], Clock] = run_chain) -> str:
    """Milliseconds per layer of both chains, and how much that grew."""
    run(min(short, 20))  # imports and caches
    few, many = run(short), run(long)
    lines = [
        f"| step | {short:,} layers, ms each | {long:,} layers, ms each | growth |",
        "|---|---:|---:|---:|",
    ]
    for name in few.seconds:
        lines.append(_row(name, few.seconds[name] / short, many.seconds[name] / long))
    lines.append(_row("all but torch.export", few.own / short, many.own / long))
    return "\n".join(lines)


def _row(name: str, few: float, many: float) -> str:
    growth = f"{many / few:.2f}x" if few > 1e-6 else ""
    return f"| {name} | {few * 1e3:.3f} | {many * 1e3:.3f} | {growth} |"


def graph_table(nodes: int) -> str:
    """Seconds of every pass on the graph built by hand."""
    clock = run_graph(nodes)
    lines = [f"| pass | {nodes:,} nodes, s |", "|---|---:|"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in clock.seconds.items()]
    passes = clock.own - clock.seconds["calibrate"]
    return "\n".join([*lines, f"| **passes together** | {passes:.2f} |"])


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, nargs=2, default=(300, 3000), metavar=("SHORT", "LONG"))
    parser.add_argument("--nodes", type=int, default=100_000, help="0 leaves the graph out")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(chain_table(*options.layers), flush=True)
    if options.nodes:
        print(f"\n{graph_table(options.nodes)}", flush=True)


if __name__ == "__main__":
    main()
