"""What the demo measures: answers, speed and memory of a compiled model beside its float twin."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.artifact import Artifact
from fxc.compiler.backend import Runner
from fxc.compiler.files import size_of
from fxc.stages import STAGES

IMAGE_SHAPE = (1, 1, 8, 8)
"""One digit, as the model takes it."""
BUILT = "model.rknn"
_CALLS = 20


@dataclass
class Answers:
    """Counts over held-out images, fold after fold.

    Attributes:
        images: how many so far.
        float_right, compiled_right: how many of them each model names right.
        agree: on how many both say the same, right or wrong.
        signal, noise: sums of squares of the float logits, and of the difference to them.
        examples: ``(image, label, float says, compiled says)`` where they differ or either is wrong.
    """

    images: int = 0
    float_right: int = 0
    compiled_right: int = 0
    agree: int = 0
    signal: float = 0.0
    noise: float = 0.0
    examples: list[tuple[Tensor, int, int, int]] = field(default_factory=list)

    def add(self, images: Tensor, labels: Tensor, reference: Tensor, compiled: Tensor) -> None:
        """Count one fold: ``[n, 10]`` logits of the float model and of the compiled one."""
        a, b = reference.argmax(1), compiled.argmax(1)
        self.images += len(labels)
        self.float_right += int((a == labels).sum())
        self.compiled_right += int((b == labels).sum())
        self.agree += int((a == b).sum())
        self.signal += float(reference.double().square().sum())
        self.noise += float((reference.double() - compiled.double()).square().sum())
        for i in ((a != labels) | (b != labels)).nonzero().flatten().tolist():
            self.examples.append((images[i], int(labels[i]), int(a[i]), int(b[i])))

    @property
    def float_top1(self) -> float:
        """Share that the float model names right, in percent."""
        return 100 * self.float_right / self.images

    @property
    def compiled_top1(self) -> float:
        """Share that the compiled model names right, in percent."""
        return 100 * self.compiled_right / self.images

    @property
    def agreement(self) -> float:
        """Share on which both say the same, in percent."""
        return 100 * self.agree / self.images

    @property
    def sqnr_db(self) -> float:
        """Signal-to-noise ratio of the compiled logits against the float ones, in dB; 200 for equality."""
        return 10 * math.log10(self.signal / self.noise) if self.noise else 200.0


@dataclass(frozen=True)
class Latency:
    """Medians over interleaved rounds, in milliseconds for one image, and the median of the rounds' ratios."""

    hint: str
    float_ms: float
    compiled_ms: float
    ratio: float


def latency(compiled: Artifact, reference: Artifact, hint: str, threads: int, rounds: int) -> Latency:
    """Time one image through both files in turn, with OpenVINO's precision hint at ``hint``.

    Each round times a few calls of one and then of the other, so that a slow second of the machine hits both.
    """
    runners = [artifact.runner(precision=hint, threads=threads) for artifact in (reference, compiled)]
    calls = [_call(runner) for runner in runners]
    # The first round warms up.
    pairs = [tuple(_milliseconds(call) for call in calls) for _ in range(rounds + 1)][1:]
    return Latency(
        hint,
        median(a for a, _ in pairs),
        median(b for _, b in pairs),
        median(b / a for a, b in pairs),
    )


def _call(runner: Runner) -> Callable[[], Any]:
    image = np.zeros(IMAGE_SHAPE, np.float32)
    return lambda: runner([image])


def _milliseconds(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds)


def precision_hints() -> tuple[str, ...]:
    """The precision hints to time at: f32, then OpenVINO's own default on this machine if that is another."""
    import openvino

    default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return ("f32",) if default == "f32" else ("f32", str(default))


def file_bytes(artifact: Artifact, file: str | None = None) -> int:
    """Size in bytes of the model file, or of another file of the bundle."""
    return size_of(artifact.model if file is None else artifact.path / file)


def built(artifact: Artifact) -> str | None:
    """The file that the device loads, where it was built and can be simulated here."""
    return next(
        (row["file"] for row in artifact.report["accuracy"]["outputs"] if row.get("file") == BUILT), None
    )


def answered_by(artifact: Artifact, file: str | None, images: Tensor) -> Tensor:
    """``[n, 10]`` logits of the artifact, or of another of its model files."""
    if file is None:
        return artifact(images)
    return torch.from_numpy(artifact.runner(file=file)([images.numpy()])[0])


def stage_medians(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each compile stage, the median over several compiles, in the order of the stages."""
    names = (name for name in STAGES if all(name in stages for stages in timings))
    return {name: median(stages[name] for stages in timings) for name in names}


def answers_of(model: torch.nn.Module, images: Tensor) -> Tensor:
    """``[n, 10]`` logits of the PyTorch model."""
    with torch.no_grad():
        return model(images)
