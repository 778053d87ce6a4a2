"""One target's share of a compile: everything after the program that all targets start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxc.catalogue import Room, resolve
from fxc.compiler.artifact import Artifact, Golden, build_artifact, keep_program
from fxc.compiler.backend import Emitted, Kernel, Runner
from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import size_of, write_error
from fxc.compiler.macs import macs
from fxc.compiler.passbase import Pass
from fxc.compiler.program import Program
from fxc.compiler.scratch import WorkFolder
from fxc.compiler.target import Target
from fxc.data import Data
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.annotation import quantizers
from fxc.passes.quantize.bias_correction import BiasCorrection
from fxc.passes.quantize.float_run import FloatRun
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.probe import Probed
from fxc.passes.quantize.select_observer import AUTO, SelectObserver
from fxc.passes.quantize.statistics import Statistics
from fxc.proof import Checked, OutputProof, check_graph, compare_outputs
from fxc.report import build_report
from fxc.request import Request
from fxc.stages import Stages
from fxc.watch import Watch


@dataclass(frozen=True)
class Execution:
    """The emitted file, read back and run on the proof samples, and its variants by file: outputs, and what ran them."""

    outputs: tuple[Tensor, ...]
    kernels: list[Kernel]
    runtime: str
    file_bytes: int
    variants: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    variant_runtimes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """What a compile leaves behind for its report; ``source`` is the program as captured."""

    source: Program
    float_program: Program
    program: Program
    request: Request
    data: Data
    statistics: Statistics | None
    emitted: Emitted
    execution: Execution
    checked: Checked
    proofs: list[OutputProof]
    watch: Watch


@dataclass
class Job:
    """A target on its way from the shared program to its artifact; each method is a stage or two, in this order.

    Attributes:
        request: of this target.
        stages, watch: this target's own, with what was done for all targets in them already.
        source: the program as captured.
        work: folder of the bundle; it belongs to the artifact in the end.
        program: the float program, legal for the target after :meth:`legalize`.
        probed: what a float run of the samples showed, for a target that quantizes.
        annotated: the same with quantizers, ``None`` for a float target.
    """

    request: Request
    stages: Stages
    watch: Watch
    source: Program
    program: Program
    probed: Probed | None
    work: WorkFolder = field(default_factory=lambda: _work_folder())
    annotated: Program | None = None

    @property
    def target(self) -> Target:
        """What it is compiled for."""
        return self.request.target

    @property
    def room(self) -> Room:
        """The backend room."""
        return self.request.catalogue.room(self.target)

    def legalize(self) -> None:
        """Run the room's passes; what it cannot take was refused before."""
        with self.stages("legalize"):
            self.program = self.watch.run(self.program, self.room.pipeline(self.target))

    def annotate(self) -> None:
        """Attach the target's quantizers, if it quantizes."""
        if self.target.scheme is not None:
            with self.stages("annotate"):
                step = Annotate(self.target.scheme, self.request.config)
                self.annotated = self.watch.run(self.program, (step,))

    def finish(self, data: Data, statistics: Statistics | None) -> Artifact:
        """Quantize, check, emit, run the file and bundle it.

        Raises:
            FxcError: of the stage that failed.
        """
        quantized = self._quantized(data, statistics)
        folder = Path(self.work.name)
        with self.stages("emit"), self._written():
            emitted = self.room.emit(self._shown(quantized, data), self.target, folder)
        # A runtime compiles the file on one core, without the interpreter's lock: the check runs beside it.
        with ThreadPoolExecutor(1, "fxc-run") as beside, _one_core_spared():
            running = beside.submit(self._run, folder, emitted, data.samples)
            with self.stages("check"):
                heavy = {n.name for n in quantized.graph.nodes if macs(n) > 0}
                checked = check_graph(self.program, quantized, heavy, data.samples, self._known(data))
            self.watch.end(quantized)
            with self.stages("run"), self._written():
                keep_program(quantized, folder)
                execution = running.result()
        files = {"": execution.outputs, **execution.variants}
        proofs = [p for file, y in files.items() for p in compare_outputs(quantized, checked, y, file)]
        used = statistics if self.annotated is not None else None
        with self.stages("bundle"), self._written():
            return self._bundle(
                Finished(
                    self.source,
                    self.program,
                    quantized,
                    self.request,
                    data,
                    used,
                    emitted,
                    execution,
                    checked,
                    proofs,
                    self.watch,
                )
            )

    def _known(self, data: Data) -> FloatRun | None:
        run = self.probed.run if self.probed is not None else None
        return run if run is not None and run.serves(self.program, data.samples) else None

    def _quantized(self, data: Data, statistics: Statistics | None) -> Program:
        scheme, annotated = self.target.scheme, self.annotated
        if annotated is None or scheme is None or statistics is None or self.probed is None:
            return self.program
        with self.stages("quantize"):
            steps: list[Pass] = [InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics)]
            if any(q.spec.observer == AUTO for q in quantizers(annotated.graph)):
                steps.insert(0, SelectObserver(data.tuning, statistics))
            method = self.request.config.bias_correction or "analytic"
            if method != "none":
                steps.append(
                    BiasCorrection(method, scheme.bias, self.program, data.tuning, self.probed.means)
                )
            return self.watch.run(annotated, steps)

    def _shown(self, program: Program, data: Data) -> Program:
        """The program as an emitter sees it: of a target whose files hold samples, with real ones."""
        return (
            replace(program, example_inputs=data.tuning or data.samples) if self.target.samples else program
        )

    def _run(self, folder: Path, emitted: Emitted, samples: tuple[Tensor, ...]) -> Execution:
        model = folder / emitted.model
        runner, outputs = self._outputs(model, samples)
        others = {name: self._outputs(folder / name, samples) for name in emitted.variants}
        return Execution(
            outputs,
            runner.kernels(),
            runner.describe,
            size_of(model),
            {name: found for name, (_, found) in others.items()},
            {name: other.describe for name, (other, _) in others.items()},
        )

    def _outputs(self, model: Path, samples: tuple[Tensor, ...]) -> tuple[Runner, tuple[Tensor, ...]]:
        runner = self.room.load(model, self.target, precision=self.target.options.get("proof_precision"))
        outputs = runner([x.detach().cpu().numpy() for x in samples])
        # Writable copies: a runtime may hand out views of its own buffers.
        return runner, tuple(torch.from_numpy(y.copy()) for y in outputs)

    def _bundle(self, done: Finished) -> Artifact:
        report = build_report(done)
        golden = Golden(
            inputs=done.data.samples,
            outputs=done.execution.outputs,
            graph_outputs=done.checked.graph_outputs,
            float_outputs=done.checked.float_outputs,
            intermediates=done.checked.intermediates,
        )
        html = resolve("fxc.tools.report:render")(report)
        return build_artifact(
            program=done.program,
            target=self.target,
            emitted=done.emitted,
            work=self.work,
            report=report,
            report_html=html,
            golden=golden,
            preprocessing=self.request.preprocessing,
            timings=self._timings(),
            host=self.request.catalogue,
            written=True,
        )

    def _timings(self) -> dict[str, Any]:
        return {
            "stages": dict(self.stages.seconds),
            "passes": self.watch.timer.seconds,
            "verify": self.watch.verify.seconds if self.watch.verify else 0.0,
        }

    @contextmanager
    def _written(self) -> Iterator[None]:
        """A full disk and the like, told as such.

        Raises:
            ArtifactError: naming the file, or the temporary folder.
        """
        try:
            yield
        except OSError as error:
            place = error.filename if isinstance(error.filename, str) else self.work.name
            raise write_error(Path(place), error) from error


@contextmanager
def _one_core_spared() -> Iterator[None]:
    """PyTorch on one core less: its threads wait for each other, and one that shares its core keeps all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _work_folder() -> WorkFolder:
    try:
        return WorkFolder("compile")
    except OSError as error:
        raise ArtifactError(
            f"cannot make a temporary folder: {error}", fix="set TMPDIR to a folder that you may write"
        ) from error
