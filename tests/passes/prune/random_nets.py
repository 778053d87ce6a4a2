"""Random models of all operators, between layers that make and read their channels, and all that must hold when they are pruned."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxc.compiler.capture import capture
from fxc.compiler.macs import WEIGHTED
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.pipelines import canonical
from fxc.passes.prune.apply_plan import apply_plan
from fxc.passes.prune.atoms import Flags, Ints
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.groups import Group, Structure, structure_of
from fxc.passes.prune.prune_channels import PruneChannels
from tests.passes.prune.cases import assert_smaller
from tests.passes.prune.masked import masked_output
from tests.passes.prune.zeroed import zeroed_outputs
from tests.random.check import Broken
from tests.random.spec import Net, Spec

SINGLE, DOUBLE = 1e-4, 1e-10


class Between(nn.Module):
    """A random model whose inputs come out of layers and whose outputs go into some, so that its channels may go."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.kinds = [each.kind for each in spec.inputs]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            self.stems = nn.ModuleList(_stem(each.shape, each.kind) for each in spec.inputs)
            self.net = Net(spec)
            with torch.no_grad():
                found = self.net(*self._made(spec.rows(0, spec.batch)))
            outputs = (found,) if isinstance(found, Tensor) else found
            self.heads = nn.ModuleList(map(_head, outputs))
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.net(*self._made(inputs))
        outputs = (found,) if isinstance(found, Tensor) else found
        return tuple(head(y) for head, y in zip(self.heads, outputs))

    def _made(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        made = [stem(x) for stem, x in zip(self.stems, inputs)]
        return [x.abs() + 0.05 if kind == "positive" else x for x, kind in zip(made, self.kinds)]


def _stem(shape: tuple[int, ...], kind: str) -> nn.Module:
    if kind == "whole":
        return nn.Identity()
    layer = nn.Conv2d(shape[0], shape[0], 1) if len(shape) == 3 else nn.Linear(shape[-1], shape[-1])
    nn.init.normal_(layer.weight, std=layer.weight.shape[1] ** -0.5)
    return layer


def _head(y: Tensor) -> nn.Module:
    if not y.is_floating_point() or y.dim() < 2:
        return nn.Identity()
    return nn.Conv2d(y.shape[1], 2, 1) if y.dim() == 4 else nn.Linear(y.shape[-1], 2)


def check(spec: Spec, counts: Counter[str] | None = None) -> None:
    """Everything that must hold when a model is pruned, in double precision.

    Raises:
        Broken: naming the promise.
    """
    counts = Counter() if counts is None else counts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, rows = _in_double(spec)
        program = _program(spec, model, rows)
        structure = structure_of(program)
        counts["models"] += 1
        counts["groups"] += len(structure.groups)
        counts["prunable"] += len(structure.prunable)
        counts["shrunk layers"] += sum(len(group.layers) for group in structure.prunable)
        counts["models pruned"] += bool(structure.prunable)
        _step("nothing goes", _nothing, program)
        if structure.prunable:
            _step("narrowest", _narrowest, structure)
            _step("equal", _equal, structure, model, rows, counts)
            _step("twice", _twice, program)


def _in_double(spec: Spec) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model and its inputs in float64, unless it casts to float32 on its way and then fails."""
    rows = spec.rows(0, spec.batch)
    double = tuple(x.double() if x.is_floating_point() else x for x in rows)
    model = Between(spec).double()
    try:
        with torch.no_grad():
            model(*(x.clone() for x in double))
    except RuntimeError:
        return Between(spec), rows
    return model, double


def fails_at(stage: str):  # type: ignore[no-untyped-def]
    """A test whether a model breaks the promise."""

    def fails(spec: Spec) -> bool:
        try:
            check(spec)
        except Broken as error:
            return error.stage == stage
        except Exception:  # noqa: BLE001  a model that cannot even be captured is no smaller example
            return False
        return False

    return fails


def _step(stage: str, what, *args) -> None:  # type: ignore[no-untyped-def]
    try:
        what(*args)
    except Broken:
        raise
    except Exception as error:
        raise Broken(stage, f"{type(error).__name__}: {error}") from error


def _program(spec: Spec, model: nn.Module, rows: tuple[Tensor, ...]) -> Program:
    try:
        return run_pipeline(capture(model, rows, dynamic_batch=None if spec.dynamic else False), canonical())
    except Exception as error:
        raise Broken("capture", f"{type(error).__name__}: {error}") from error


def _nothing(program: Program) -> None:
    """A ratio of 0 is the identity."""
    before = structural_hash(program)
    result = PruneChannels(ratio=0.0, criterion="random").apply(program)
    if result.modified or structural_hash(result.program) != before:
        raise Broken("nothing goes", "a ratio of 0 changed the program")


def _narrowest(structure: Structure) -> None:
    """As little as can be left: no layer is empty, shapes are what runs, inputs and outputs keep theirs."""
    before = structural_hash(structure.program)
    keep = structure.keep([group.units[1:] for group in structure.prunable])
    smaller = cut_program(structure, keep, "test")
    assert_smaller(structure, keep, smaller)
    plan = PruneChannels(ratio=0.999, criterion="random").plan(structure)
    if any(len(group.kept) < 1 for group in plan.groups):
        raise Broken("narrowest", "a group keeps nothing")
    for each in (smaller, apply_plan(structure.program, plan)):
        _keeps_its_shapes(structure.program, each)
    if structural_hash(structure.program) != before:
        raise Broken("narrowest", "pruning changed its input")


def _keeps_its_shapes(before: Program, after: Program) -> None:
    if before.inputs != after.inputs or before.outputs != after.outputs:
        raise Broken("narrowest", "inputs or outputs changed")
    pairs = zip(before.run_flat(*before.example_inputs), after.run_flat(*before.example_inputs))
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        raise Broken("narrowest", "an output has another shape")
    for node in after.graph.nodes:
        if node.op == "get_attr" and 0 in after.tensor(str(node.target)).shape:
            raise Broken("narrowest", f"{node} is empty")


def _equal(structure: Structure, model: nn.Module, rows: tuple[Tensor, ...], counts: Counter[str]) -> None:
    """Half of what can go without a change of statistics, at random, against zeros."""
    exact = [group for group in structure.prunable if not group.changes_statistics]
    if not exact:
        return
    keep = _halved(structure, exact)
    found = cut_program(structure, keep, "test").run_flat(*rows)
    tolerance = DOUBLE if _double(structure.program) else SINGLE
    _near("equal", found, zeroed_outputs(structure.flow, keep, rows), tolerance)
    counts["equal to zeroed values"] += 1
    counts["in double precision"] += tolerance == DOUBLE
    if not _contracts(structure, keep):
        masked = masked_output(model, structure.kept_indices(keep), *rows)
        _near("masked", found, masked, tolerance)
        counts["equal to the masked module"] += 1


def _halved(structure: Structure, groups: Sequence[Group], seed: int = 0) -> Flags:
    rng = np.random.default_rng(seed)
    gone: list[Ints] = [rng.permutation(g.units)[: max(1, len(g) // 2)] for g in groups]
    return structure.keep(gone)


def _double(program: Program) -> bool:
    """Whether nothing in between is rounded to less than float64."""
    values = [node.meta.get("val") for node in program.graph.nodes]
    return not any(
        isinstance(v, Tensor) and v.is_floating_point() and v.dtype != torch.float64 for v in values
    )


def _contracts(structure: Structure, keep: Flags) -> bool:
    """Whether something else than a layer sums over what goes: there f(0) counts, unless it is zeroed as well."""
    flow = structure.flow
    for node in structure.program.graph.nodes:
        if node.op != "call_function" or _is_layer(node):
            continue
        made = _atoms(flow.of(node), keep)
        for source in node.all_input_nodes:
            if source.op == "call_function" and not _atoms(flow.of(source), keep) <= made:
                return True
    return False


def _is_layer(node: fx.Node) -> bool:
    return node.target in WEIGHTED and node.args[1].op == "get_attr"


def _atoms(labels: Sequence[Ints | None], keep: Flags) -> set[int]:
    return {int(a) for label in labels if label is not None for a in label[~keep[label]]}


def _near(stage: str, found: Sequence[Tensor], want: Sequence[Tensor], tolerance: float) -> None:
    for i, (a, b) in enumerate(zip(found, want, strict=True)):
        if a.shape != b.shape:
            raise Broken(stage, f"output {i} is {list(a.shape)}, not {list(b.shape)}")
        if a.is_floating_point():
            error = float((a - b).double().norm() / (b.double().norm() + 1e-2))
            if not error <= tolerance:
                raise Broken(stage, f"output {i} is off by {error:.3g}")
        elif not torch.equal(a, b):
            raise Broken(stage, f"output {i} differs")


def _twice(program: Program) -> None:
    """Two plans one after the other are their union at once."""
    first = _plan(program, 1)
    half = apply_plan(program, first)
    second = _plan(half, 2)
    once = apply_plan(program, first.then(second))
    if structural_hash(apply_plan(half, second)) != structural_hash(once):
        raise Broken("twice", "pruned twice is not what the union gives at once")


def _plan(program: Program, seed: int):  # type: ignore[no-untyped-def]
    return PruneChannels(ratio=0.4, criterion="random", seed=seed).plan(structure_of(program))
