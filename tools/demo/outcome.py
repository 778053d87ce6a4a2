"""What one target achieved, and the bars it is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fxc.tools.demo.measure import Answers, Latency, stage_medians
from fxc.tools.report import Example, Row
from fxc.tools.report.numbers import decibel, size

TOP1_DROP = 0.3
"""Points of top-1 that a compiled model may lose."""
AGREEMENT = 99.3
"""Percent of images on which the compiled model must say what the float model says."""
SIZE_RATIO = 0.30
"""The compiled file's size over the float ONNX file's."""

_PICTURES = 12


@dataclass
class Outcome:
    """Everything measured about one target.

    Attributes:
        target: its name, and ``reference`` the float target beside it.
        answers: over all held-out images.
        sizes: bytes of the float and the compiled file; zeros if the device's file is not built here.
        latencies: one per precision hint.
        memory: per file, ``runtime`` and ``peak`` bytes of a process that runs it.
        timings: seconds by stage of every compile, in order.
        elsewhere: for a chip that is not here: what answered in its place, in words. Then there are no latencies and no memory.
    """

    target: str
    reference: str
    answers: Answers = field(default_factory=Answers)
    sizes: tuple[int, int] = (0, 0)
    latencies: list[Latency] = field(default_factory=list)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    timings: list[Mapping[str, float]] = field(default_factory=list)
    elsewhere: str = ""

    @property
    def compiles(self) -> list[float]:
        """Seconds of every compile; the first one also pays for imports."""
        return [sum(stages.values()) for stages in self.timings]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage, the median over the compiles."""
        return stage_medians(self.timings)

    @property
    def size_ratio(self) -> float:
        """Compiled file over float file."""
        return self.sizes[1] / self.sizes[0] if self.sizes[0] else 0.0


def rows(outcome: Outcome) -> tuple[Row, ...]:
    """The table's rows, in reading order."""
    sizes = [_size_row(outcome)] if outcome.sizes[0] else []
    return (*_answer_rows(outcome), *sizes, *_latency_rows(outcome), *_cost_rows(outcome))


def missed(outcome: Outcome) -> list[Row]:
    """The rows whose bar was not reached."""
    return [row for row in rows(outcome) if row.held is False]


def examples(outcome: Outcome) -> tuple[Example, ...]:
    """Images that are telling: those on which the two models differ, then those that both name wrong."""
    differing_first = sorted(outcome.answers.examples, key=lambda example: example[2] == example[3])
    return tuple(_example(*example) for example in differing_first[:_PICTURES])


def _example(image: Tensor, label: int, reference: int, compiled: int) -> Example:
    pixels = tuple(tuple(round(16 * float(level)) for level in line) for line in image[0])
    says = (
        f"both say {compiled}" if reference == compiled else f"float says {reference}, int8 says {compiled}"
    )
    return Example(pixels, f"a {label}: {says}")


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain numbers for ``results.json``."""
    a = outcome.answers
    return {
        "target": outcome.target,
        "reference": outcome.reference,
        "images": a.images,
        "top1_float": a.float_top1,
        "top1": a.compiled_top1,
        "agreement": a.agreement,
        "sqnr_db": a.sqnr_db,
        "file_bytes": {"float": outcome.sizes[0], "compiled": outcome.sizes[1], "ratio": outcome.size_ratio},
        "latency": [vars(latency) for latency in outcome.latencies],
        "memory": outcome.memory,
        "elsewhere": outcome.elsewhere,
        "compile_seconds": {"stages": outcome.stages, "first": outcome.compiles[0]},
        "missed": [row.what for row in missed(outcome)],
    }


def _answer_rows(outcome: Outcome) -> list[Row]:
    a = outcome.answers
    change = a.compiled_top1 - a.float_top1
    return [
        Row(
            "top-1",
            f"{a.float_top1:.2f} %",
            f"{a.compiled_top1:.2f} %",
            f"{change:+.2f} points",
            f"≥ −{TOP1_DROP}",
            change >= -TOP1_DROP,
        ),
        Row(
            "same answer",
            "",
            f"{a.agreement:.2f} %",
            f"{a.images - a.agree} differ",
            f"≥ {AGREEMENT} %",
            a.agreement >= AGREEMENT,
        ),
        Row("SQNR of logits", "", decibel(a.sqnr_db)),
    ]


def _size_row(outcome: Outcome) -> Row:
    before, after = outcome.sizes
    return Row(
        "model file",
        size(before),
        size(after),
        f"{outcome.size_ratio:.3f}×",
        f"≤ {SIZE_RATIO:.2f}×",
        outcome.size_ratio <= SIZE_RATIO,
    )


def _latency_rows(outcome: Outcome) -> list[Row]:
    return [
        Row(
            f"1 image, {m.hint} hint",
            f"{m.float_ms:.2f} ms",
            f"{m.compiled_ms:.2f} ms",
            f"{m.ratio:.2f}×",
            "< 1×",
            m.ratio < 1,
        )
        for m in outcome.latencies
    ]


def _cost_rows(outcome: Outcome) -> list[Row]:
    compile_time = f"{sum(outcome.stages.values()):.1f} s"
    seconds = Row("compile time", "", compile_time, f"first {outcome.compiles[0]:.1f} s")
    return [seconds] if outcome.elsewhere else [*_memory_rows(outcome), seconds]


def _memory_rows(outcome: Outcome) -> list[Row]:
    float_memory, memory = outcome.memory["float"], outcome.memory["compiled"]
    above = [m["peak"] - m["runtime"] for m in (float_memory, memory)]
    peaks = Row("peak memory, process", size(float_memory["peak"]), size(memory["peak"]))
    change = f"{above[1] / above[0]:.2f}×" if above[0] > 0 else ""
    return [peaks, Row("peak memory, model", size(above[0]), size(above[1]), change)]
