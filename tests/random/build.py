"""Makes random specs: operators are run while the model grows, and a step that would be ill-conditioned is not taken.

A step is taken if its results are finite, of moderate size, nearly the same in float64, and steady: a change of its
operands by 2e-5 moves a float result by at most 50 times that, and an integer or boolean one not at all. So no value
lies near the edge of a ``floor``, a comparison or an ``argmax``, and rounding in one runtime or another is not amplified.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.random.choices import Choices
from tests.random.op import Params
from tests.random.spec import ROWS, Input, Spec, Step, add_module, run_step
from tests.random.table import OPS, WEIGHTED

DELTA, STEADY = 2e-5, 50.0
LARGEST, SMALLEST, MOST = 40.0, 1e-2, 6000
EXACT = 5e-6
"""Largest relative error of float32 against float64 that a model may collect: a twentieth of what is allowed later."""

TIES = ("conv2d", "linear", "linear_rows", "conv1d")


@dataclass(frozen=True)
class Value:
    """A value while the model grows: on the sample rows, and the same in float64."""

    single: Tensor
    double: Tensor


def random_spec(c: Choices, *, longest: int = 14) -> Spec:
    """A random model of up to ``longest`` steps."""
    seed = c.integer(0, 9999)
    inputs = tuple(_input(c) for _ in range(c.pick((1, 1, 2, 1, 3))))
    spec = Spec(inputs, (), (), batch=c.pick((2, 1)), dynamic=not c.chance(12), seed=seed)
    growing = _Growing(spec)
    for _ in range(c.integer(2, longest)):
        growing.grow(c)
    return growing.finish(c)


def _input(c: Choices) -> Input:
    kind = c.integer(0, 9)
    if kind == 9:
        return Input((c.integer(2, 6),), "whole")
    layout = "channels_last" if c.chance(8) else "contiguous"
    sign = "positive" if c.chance(20) else "normal"
    if kind == 8:
        return Input((c.pick((8, 6, 4)),), sign)
    if kind == 7:
        return Input((c.pick((4, 6, 9)), c.pick((8, 6, 4))), sign)
    size = c.integer(6, 12)
    return Input((c.pick((4, 3, 8, 6)), size, size if c.chance(60) else c.integer(5, 12)), sign, layout)


class _Growing:
    def __init__(self, spec: Spec):
        self.spec = spec
        self.single, self.double = nn.ModuleDict(), nn.ModuleDict()
        self.values = [Value(x, x.double() if x.is_floating_point() else x) for x in spec.rows()]
        self.steps: list[Step] = []

    def grow(self, c: Choices) -> None:
        """Take one step, of the first of a few operators that fits."""
        for _ in range(4):
            if self._step(c, c.pick(WEIGHTED)):
                return

    def _step(self, c: Choices, name: str) -> bool:
        reads = self._reads(c, name)
        if reads is None:
            return False
        operands = [self.values[i].single for i in reads]
        params = OPS[name].draw(c, *operands)
        if params is None:
            return False
        step = self._with_shared(c, Step(len(self.steps), name, reads, params))
        return self._take(step)

    def _reads(self, c: Choices, name: str) -> tuple[int, ...] | None:
        """Operands, late ones preferred: a chain with side branches, not a bush."""
        chosen: list[int] = []
        for accepts in OPS[name].accepts:
            tensors = [self.values[i].single for i in chosen]
            fitting = [i for i, v in enumerate(self.values) if accepts(v.single, tensors)]
            if not fitting:
                return None
            late = (
                fitting[::-1] if not chosen or c.chance(50) else [i for i in fitting[::-1] if i not in chosen]
            )
            late = late or fitting
            chosen.append(late[0] if c.integer(0, 9) < 6 else c.pick(late))
        return tuple(chosen)

    def _with_shared(self, c: Choices, step: Step) -> Step:
        earlier = [
            s for s in self.steps if s.op == step.op and s.shares is None and OPS[s.op].make is not None
        ]
        if not earlier or not c.chance(35):
            return step
        other = c.pick(earlier[::-1])
        if step.op in TIES and c.chance(50):
            return replace(step, params=_tied(step.params, other.params), ties=other.key)
        return replace(step, params=other.params, shares=other.key)

    def _take(self, step: Step) -> bool:
        operands = [self.values[i] for i in step.reads]
        try:
            add_module(self.single, step, self.spec.seed)
            found = _results(self.single, self.double, step, operands)
        except (RuntimeError, ValueError, IndexError, KeyError):
            found = None
        if found is None:
            self._forget(step)
            return False
        self.steps.append(step)
        self.values.extend(found)
        return True

    def retake(self, step: Step) -> bool:
        """Take a step as it is, if it fits."""
        return max(step.reads) < len(self.values) and self._take(step)

    def _forget(self, step: Step) -> None:
        for layers in (self.single, self.double):
            if str(step.key) in layers:
                del layers[str(step.key)]

    def finish(self, c: Choices) -> Spec:
        """The last value and a few others as outputs; what nothing reads stays in the model, for dead code to go."""
        first = len(self.spec.inputs) if self.steps else 0
        outputs = [len(self.values) - 1]
        for _ in range(c.pick((0, 1, 0, 2, 3))):
            other = c.integer(first, len(self.values) - 1)
            if other not in outputs or c.chance(15):
                outputs.append(other)
        return replace(self.spec, steps=tuple(self.steps), outputs=tuple(outputs))


def _tied(params: Params, other: Params) -> Params:
    """The other's weight with a bias, stride and padding of its own."""
    free = ("bias", "stride", "padding", "padding_mode")
    kept = {k: v for k, v in params.items() if k in free}
    return {**{k: v for k, v in other.items() if k not in free}, **kept}


def _results(
    single: nn.ModuleDict, double: nn.ModuleDict, step: Step, operands: Sequence[Value]
) -> list[Value] | None:
    """Results of a step that is good to take."""
    key = str(step.key)
    if key in single:
        double[key] = copy.deepcopy(single[key]).double()
    with torch.no_grad():
        singles = run_step(single, step, [v.single for v in operands])
        doubles = run_step(double, step, [v.double for v in operands])
        found = [Value(a, b.double() if b.is_floating_point() else b) for a, b in zip(singles, doubles)]
        if not all(map(_good, found)):
            return None
        for sign in (1.0, -1.0):
            moved = [_moved(v.double, sign * (i + 1)) for i, v in enumerate(operands)]
            if not all(map(_steady, doubles, run_step(double, step, moved))):
                return None
    return found


def _good(value: Value) -> bool:
    a, b = value.single, value.double
    if (
        not 0 < a.numel() <= MOST * ROWS
        or a.shape != b.shape
        or a.dim() == 0
        or a.shape[0] != ROWS
        or a.dim() > 6
    ):
        return False
    if not a.is_floating_point():
        return a.dtype == b.dtype and torch.equal(a, b)
    if a.dtype != torch.float32 or b.dtype != torch.float64 or not bool(b.isfinite().all()):
        return False
    largest = float(b.abs().max())
    return SMALLEST < largest < LARGEST and float((a - b).abs().max()) <= EXACT * largest


def _moved(x: Tensor, amount: float) -> Tensor:
    if not x.is_floating_point():
        return x
    generator = torch.Generator().manual_seed(x.numel())
    signs = 2.0 * torch.randint(0, 2, x.shape, generator=generator) - 1.0
    return x + DELTA * amount * float(x.abs().max()) * signs


def _steady(before: Tensor, after: Tensor) -> bool:
    if not before.is_floating_point():
        return torch.equal(before, after)
    return float((before - after).abs().max()) <= STEADY * DELTA * float(before.abs().max())


def sound(spec: Spec) -> bool:
    """Whether every step of a given spec would be taken: what a reduced spec must keep to stay a fair judge."""
    growing = _Growing(spec)
    return all(growing.retake(step) for step in spec.steps) and max(spec.outputs) < len(growing.values)
