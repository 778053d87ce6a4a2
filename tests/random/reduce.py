"""Makes a failing spec small: fewer outputs, values turned into inputs, steps left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tests.random.build import sound
from tests.random.spec import Input, Net, Spec, Step, run_step


def reduced(spec: Spec, fails: Callable[[Spec], bool], *, budget: int = 80) -> Spec:
    """The smallest spec found that still fails and is as well-conditioned as a fresh one.

    Args:
        fails: whether a spec fails in the same way.
        budget: how often ``fails`` may be asked.
    """
    asked = 0
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(spec):
            if asked >= budget:
                return spec
            if not sound(candidate):
                continue
            asked += 1
            if fails(candidate):
                spec, progress = candidate, True
                break
    return spec


def _smaller(spec: Spec) -> Iterator[Spec]:
    """Specs with less in them, the boldest first."""
    values, made_by = _values(spec)
    if len(spec.outputs) > 1:
        yield from (_tidy(replace(spec, outputs=(i,)), values) for i in dict.fromkeys(spec.outputs))
    for number in range(len(values) - 1, len(spec.inputs) - 1, -1):
        if number not in spec.outputs:
            yield from _as_input(spec, values, number)
    for number in range(len(spec.inputs), len(values)):
        for other in spec.steps[made_by[number]].reads:
            if values[other].shape == values[number].shape and values[other].dtype == values[number].dtype:
                yield _tidy(_redirected(spec, {number: other}), values)
    for number in range(len(values) - 1, len(spec.inputs) - 1, -1):
        yield _tidy(replace(spec, outputs=(number,)), values)


def _values(spec: Spec) -> tuple[list[Tensor], list[int]]:
    """Every value on the sample rows and the place of the step that made it (-1 for inputs)."""
    net, values = Net(spec), list(spec.rows())
    made_by = [-1] * len(values)
    with torch.no_grad():
        for place, step in enumerate(spec.steps):
            found = run_step(net.layers, step, [values[i] for i in step.reads])
            values.extend(found)
            made_by += [place] * len(found)
    return values, made_by


def _as_input(spec: Spec, values: list[Tensor], number: int) -> Iterator[Spec]:
    """The value comes from outside, so nothing before it is needed."""
    value = values[number]
    if value.dtype != torch.float32 or value.dim() < 1:
        return
    kind = "positive" if bool((value >= 0).all()) else "normal"
    count = len(spec.inputs)
    moved = {i: i + 1 for i in range(count, len(values))}
    moved[number] = count
    steps = tuple(replace(s, reads=tuple(moved.get(i, i) for i in s.reads)) for s in spec.steps)
    outputs = tuple(moved.get(i, i) for i in spec.outputs)
    fresh = Input(tuple(value.shape[1:]), kind)
    widened = replace(spec, inputs=(*spec.inputs, fresh), steps=steps, outputs=outputs)
    yield _tidy(widened, [*values[:count], value, *values[count:]])


def _redirected(spec: Spec, to: dict[int, int]) -> Spec:
    steps = tuple(replace(s, reads=tuple(to.get(i, i) for i in s.reads)) for s in spec.steps)
    return replace(spec, steps=steps, outputs=tuple(to.get(i, i) for i in spec.outputs))


def _tidy(spec: Spec, values: list[Tensor]) -> Spec:
    """Without the steps and inputs that no output needs, renumbered."""
    starts, at = [], len(spec.inputs)
    counts = [len(f) for f in _shapes(spec)]
    for count in counts:
        starts.append(at)
        at += count
    needed, keep = set(spec.outputs), []
    for place in range(len(spec.steps) - 1, -1, -1):
        step = spec.steps[place]
        if needed & set(range(starts[place], starts[place] + counts[place])) or _shared_later(step, keep):
            keep.append(step)
            needed |= set(step.reads)
    inputs = [i for i in range(len(spec.inputs)) if i in needed] or [0]
    numbers = {old: new for new, old in enumerate(inputs)}
    at = len(inputs)
    for step, start, count in zip(spec.steps, starts, counts):
        if any(step is kept for kept in keep):
            numbers |= {start + i: at + i for i in range(count)}
            at += count
    return replace(
        spec,
        inputs=tuple(spec.inputs[i] for i in inputs),
        steps=tuple(replace(s, reads=tuple(numbers[i] for i in s.reads)) for s in reversed(keep)),
        outputs=tuple(numbers[i] for i in spec.outputs),
    )


def _shared_later(step: Step, kept: list[Step]) -> bool:
    return any(step.key in (other.shares, other.ties) for other in kept)


def _shapes(spec: Spec) -> list[tuple[Tensor, ...]]:
    net, values, found = Net(spec), list(spec.rows()), []
    with torch.no_grad():
        for step in spec.steps:
            found.append(run_step(net.layers, step, [values[i] for i in step.reads]))
            values.extend(found[-1])
    return found
