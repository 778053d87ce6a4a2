"""``python -m fxc.tools.demo``: train on real digits, compile, run the artifact read back from disk, and measure.

It is a check too: the exit code is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

import fxc
from fxc.backends.coreml.toolchain import installed as coremltools_installed
from fxc.compiler.artifact import Artifact, check_output
from fxc.compiler.errors import FxcError
from fxc.compiler.files import write_json, write_text
from fxc.compiler.toolchain.environment import environment, status
from fxc.toolchains import toolchain
from fxc.tools.demo import measure
from fxc.tools.demo.outcome import Outcome, as_dict, missed
from fxc.tools.demo.probe import peak_memory
from fxc.tools.demo.table import measured, processor, stage_line, stand_ins, table
from fxc.tools.demo.training import DigitsNet, Fold, folds, train_all
from fxc.tools.report import render

TARGETS = (("cpu-int8", "cpu-fp32"),)
"""Each target to compile for, with the float target it is measured against."""
ELSEWHERE = {"jetson-int8": "its file in ONNX Runtime"}
EVALUATED = {"iphone-int8": "its saved package in fxc's evaluator"}
SIMULATED = {"rk3588-int8": ("rknn", "RKNN-Toolkit2's simulator")}
"""Targets of chips that are not here, and what answers in their place: the first from what a bundle has for every chip, the
second if coremltools is installed, which writes the file, the third with the toolchain that it takes."""

_CALIBRATION_IMAGES = 256
_CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Plan:
    """How much to do: ``folds`` of five are trained for ``epochs`` each, latencies taken in ``rounds``; only a full run
    is ``judged`` by the bars."""

    folds: int = 5
    epochs: int = 5
    rounds: int = 15
    judged: bool = True


QUICK = Plan(folds=1, epochs=1, rounds=3, judged=False)


def run(plan: Plan, directory: Path, console: Console) -> tuple[list[Outcome], dict[str, Artifact]]:
    """Train and compile fold after fold, then measure the last fold's files.

    Returns:
        One outcome per target, and the last fold's artifacts by target, read back from ``directory``.
    """
    here = [Outcome(target, reference) for target, reference in TARGETS]
    outcomes = [*here, *elsewhere(TARGETS[0][1], console)]
    artifacts: dict[str, Artifact] = {}
    pairs = list(zip(folds(), trained(plan, console)))
    for number, (fold, model) in enumerate(pairs, 1):
        for outcome in outcomes:
            said = f"fold {number} of {plan.folds}: compiling for {outcome.target}"
            with console.status(said):
                artifacts[outcome.target] = answered(outcome, model, fold, directory)
            console.print(f"{said} took {outcome.compiles[-1]:.1f} s", highlight=False)
    fold, model = pairs[-1]
    for outcome in here:
        with console.status(f"measuring {outcome.target}"):
            artifacts[outcome.reference] = compile_fold(model, fold, outcome.reference, directory)
            measure_files(outcome, artifacts, plan.rounds)
    for outcome in outcomes[len(here) :]:
        artifact, reference = artifacts[outcome.target], artifacts[outcome.reference]
        # What the device loads, where it was built; a file that it still has to build from says nothing.
        file = measure.built(artifact)
        if file or outcome.target in EVALUATED:
            outcome.sizes = (measure.file_bytes(reference), measure.file_bytes(artifact, file))
    return outcomes, artifacts


def elsewhere(reference: str, console: Console) -> list[Outcome]:
    """The outcomes to be of chips that are not here; of those whose toolchain is not installed a line says how."""
    found = dict(ELSEWHERE)
    if coremltools_installed():
        found.update(EVALUATED)
    else:
        names = ", ".join(EVALUATED)
        console.print(
            f"{names} is left out: pip install 'fxc\\[coreml]' installs what writes it", highlight=False
        )
    for target, (name, words) in SIMULATED.items():
        tool = toolchain(name)
        if status(environment(tool)).state == "ready":
            found[target] = words
        else:
            console.print(f"{target} is left out: {tool.command} installs what simulates it", highlight=False)
    return [Outcome(target, reference, elsewhere=words) for target, words in found.items()]


def answered(outcome: Outcome, model: DigitsNet, fold: Fold, directory: Path) -> Artifact:
    """Compile for the outcome's target and count what float and artifact answer on the held-out digits."""
    artifact = compile_fold(model, fold, outcome.target, directory)
    logits = measure.answers_of(model, fold.test_images)
    answers = measure.answered_by(artifact, measure.built(artifact), fold.test_images)
    outcome.answers.add(fold.test_images, fold.test_labels, logits, answers)
    outcome.timings.append(artifact.timings["stages"])
    return artifact


def trained(plan: Plan, console: Console) -> list[DigitsNet]:
    """The folds' networks. All are trained before anything is compiled, so that compile times are undisturbed."""
    models = []
    start = time.perf_counter()
    with console.status(f"training {plan.folds} folds for {plan.epochs} epochs each") as status:
        for model, seconds in train_all(plan.folds, epochs=plan.epochs, workers=threads()):
            models.append(model)
            status.update(f"trained {len(models)} of {plan.folds} folds, the last in {seconds:.0f} s")
    seconds = time.perf_counter() - start
    console.print(
        f"trained {plan.folds} folds for {plan.epochs} epochs each in {seconds:.0f} s", highlight=False
    )
    return models


def compile_fold(model: DigitsNet, fold: Fold, target: str, directory: Path) -> Artifact:
    """Compile, save the bundle as ``directory/<target>``, and read it back."""
    generator = torch.Generator().manual_seed(0)
    images = fold.train_images[torch.randperm(len(fold.train_images), generator=generator)]
    compiled = fxc.compile(
        model,
        target,
        example_inputs=(fold.train_images[:1],),
        calibration_data=images[:_CALIBRATION_IMAGES].split(_CALIBRATION_BATCH),
        name="DigitsNet",
    )
    compiled.save(directory / target, force=True)
    return fxc.Artifact.load(directory / target)


def measure_files(outcome: Outcome, artifacts: dict[str, Artifact], rounds: int) -> None:
    """Size, speed and memory of the target's file beside the float file."""
    compiled, reference = artifacts[outcome.target], artifacts[outcome.reference]
    outcome.sizes = (measure.file_bytes(reference), measure.file_bytes(compiled))
    for hint in measure.precision_hints():
        outcome.latencies.append(measure.latency(compiled, reference, hint, threads(), rounds))
    for name, artifact in (("float", reference), ("compiled", compiled)):
        target = str(artifact.manifest["target"]["name"])
        outcome.memory[name] = peak_memory(artifact.model, target, measure.IMAGE_SHAPE, "f32", threads())


def threads() -> int:
    """Threads that training and every timing use: two, or one on a single core."""
    return min(2, os.cpu_count() or 1)


def write(outcomes: list[Outcome], artifacts: dict[str, Artifact], directory: Path, about: str) -> None:
    """``results.json``, and ``report.html``: the first target's compile report with the demo's measurements in it."""
    first = outcomes[0]
    html = render(artifacts[first.target].report, [measured(first, about)])
    write_text(directory / "report.html", html)
    results = {"about": about, "targets": [as_dict(outcome) for outcome in outcomes]}
    write_json(directory / "results.json", results)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0, or 1 if a bar was missed or a compile failed."""
    parser = argparse.ArgumentParser(
        "fxc.tools.demo", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--quick", action="store_true", help="one fold, barely trained: does it work at all?")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/demo"), help="folder (default: build/demo)"
    )
    options = parser.parse_args(arguments)
    console, plan = Console(), QUICK if options.quick else Plan()
    torch.set_num_threads(threads())
    try:
        for target in {*ELSEWHERE, *EVALUATED, *SIMULATED, *(name for pair in TARGETS for name in pair)}:
            check_output(options.output / target, force=True)
        outcomes, artifacts = run(plan, options.output, console)
    except FxcError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        return 1
    runtime = artifacts[outcomes[0].target].runner().describe.split(",")[0]
    about = (
        f"{processor()}, {threads()} threads, {runtime}. Latencies: medians of {plan.rounds} interleaved rounds, one image "
        f"at a time, at the precision hint in the row's name; this machine's default is {measure.precision_hints()[-1]}. "
        f"{stand_ins(outcomes)}"
    ).strip()
    write(outcomes, artifacts, options.output, about)
    console.print(table(outcomes, about))
    for outcome in outcomes:
        console.print(stage_line(outcome), highlight=False)
    console.print(
        f"report: {options.output / 'report.html'}    bundle: {options.output / outcomes[0].target}"
    )
    return judge(outcomes, plan, console)


def judge(outcomes: list[Outcome], plan: Plan, console: Console) -> int:
    """0, or 1 after naming every missed bar; a quick run is never judged."""
    if not plan.judged:
        console.print("quick run: nothing was trained to the end, so the bars are shown and not judged")
        return 0
    failed = [(outcome.target, row) for outcome in outcomes for row in missed(outcome)]
    for target, row in failed:
        console.print(f"[bold red]missed[/] {target}: {row.what}: {row.after} ({row.change}), bar {row.bar}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
