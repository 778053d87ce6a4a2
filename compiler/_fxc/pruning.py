"""``fxc.prune``: from a model to a smaller one, in one step or in several with fine-tuning between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import lcm
from pathlib import Path
from typing import Any

from fxc import words
from fxc.catalogue import Catalogue, with_extensions
from fxc.compiler.errors import UsageError
from fxc.compiler.extension import Extension
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.passes.pipelines import canonical
from fxc.passes.prune.apply_plan import ApplyPlan
from fxc.passes.prune.cost import Costs, Device
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.gradients import Loss, gradients_of
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.plan import Plan
from fxc.passes.prune.prune_channels import PruneChannels
from fxc.passes.prune.pruned import Pruned, report_of
from fxc.passes.prune.recalibrate import recompute_batch_norm
from fxc.passes.prune.rules import RULES
from fxc.passes.prune.schedule import in_steps
from fxc.passes.prune.select import Whole
from fxc.request import Request, captured


@dataclass(frozen=True)
class PruneRequest:
    """What a user may ask of pruning; the words are those of :func:`prune`."""

    step: PruneChannels
    plan: Plan | None = None
    data: Iterable[Any] | None = None
    loss: Loss | None = None
    calibration_data: Iterable[Any] | None = None


def prune(
    model: Any,
    ratio: float = 0.5,
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    macs: float | None = None,
    params: float | None = None,
    latency: float | str | None = None,
    criterion: str = "l2",
    ranking: str = "local",
    align: int | None = None,
    target: str | Sequence[str] | None = None,
    layers: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
    heads: bool = False,
    seed: int = 0,
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    calibration_data: Iterable[Any] | None = None,
    plan: Plan | str | Path | None = None,
    dynamic_batch: bool | None = None,
    name: str | None = None,
    trust: bool = False,
    extensions: Iterable[Extension] | Extension = (),
) -> Pruned:
    """Remove channels from a model, with everything that must shrink with them.

    Args:
        model, example_inputs, example_kwargs, dynamic_batch, name, trust, extensions: as in :func:`fxc.compile`; also a
            :class:`Pruned`, to go on from it.
        ratio: share of the channels of every layer that goes, in [0, 1).
        macs, params: share of the original that may be left, in (0, 1]; the ratio is then found.
        latency: the same for the time that one image takes on ``target`` by a model of its peaks, or that time, ``"3.5ms"``.
            Nothing is measured; targets whose peaks are not known refuse.
        criterion: ``l1``, ``l2``, ``bn``, ``fpgm``, ``taylor`` (needs ``data`` and ``loss``) or ``random``.
        ranking: ``local`` takes the same share of every group, ``global`` ranks all channels together.
        align: multiple that widths are rounded to; by default that of ``target``, 1 without one.
        target: what the model will be compiled for; several are a list.
        layers: pattern to a ratio of its own, ``{"layer4.*": 0.2}``; ``protect``: patterns that keep every channel.
        heads: attention loses whole heads, not parts of each.
        seed: of the random criterion.
        data, loss: batches and ``loss(model, batch) -> scalar``, for ``taylor``.
        calibration_data: batches of inputs; batch-norm statistics are measured again on them.
        plan: a plan to replay, or its file, in place of the words from ``ratio`` to ``loss``.

    Raises:
        UsageError: a value out of range, a budget that cannot be reached, a plan of another model, everything protected.
        CaptureError: the model cannot be captured.
    """
    program, catalogue = _canonical(
        model, example_inputs, example_kwargs, dynamic_batch, name, trust, extensions
    )
    chosen = () if target is None else words.targets(catalogue, target)
    step = prune_step(
        ratio=ratio, macs=macs, params=params, latency=latency, criterion=criterion, ranking=ranking, align=align,
        multiple=_multiple(chosen), device=_device(catalogue, chosen, latency), layers=layers, protect=protect, heads=heads, seed=seed,
        rules=catalogue.pruning,
    )  # fmt: skip
    return _pruned(program, PruneRequest(step, read_plan(plan), data, loss, calibration_data))


def prune_steps(
    model: Any,
    ratio: float = 0.5,
    *,
    steps: int,
    curve: str = "linear",
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    data: Sequence[Any] | None = None,
    loss: Loss | None = None,
    calibration_data: Sequence[Any] | None = None,
    **options: Any,
) -> Iterator[Pruned]:
    """Prune in steps: train ``pruned.module()`` of each before asking for the next, which starts from its weights.

        for pruned in fxc.prune_steps(model, ratio=0.5, steps=4, example_inputs=(x,)):
            fine_tune(pruned.module())

    Args:
        ratio and every other word: as in :func:`prune`, for the whole way; ``data`` and ``calibration_data`` are read at
            every step, so they must be sequences or loaders.
        steps: how many.
        curve: ``linear``, or ``cubic``: much at first, little at the end.

    Yields:
        The model after each step, its plan and report counted from the original.
    """
    program, catalogue = _canonical(
        model, example_inputs, example_kwargs,
        *(options.pop(word, default) for word, default in _CAPTURE_WORDS),
    )  # fmt: skip
    target = options.pop("target", None)
    chosen = () if target is None else words.targets(catalogue, target)
    known = {
        "macs",
        "params",
        "latency",
        "criterion",
        "ranking",
        "align",
        "layers",
        "protect",
        "heads",
        "seed",
    }
    if unknown := sorted(set(options) - known):
        raise UsageError(f"prune_steps takes no {unknown[0]!r}", fix=f"words: {', '.join(sorted(known))}")
    device = _device(catalogue, chosen, options.get("latency"))
    whole = prune_step(
        ratio=ratio, multiple=_multiple(chosen), device=device, rules=catalogue.pruning, **options
    )
    return _in_steps(program, whole, steps, curve, PruneRequest(whole, None, data, loss, calibration_data))


_CAPTURE_WORDS: tuple[tuple[str, Any], ...] = (
    ("dynamic_batch", None), ("name", None), ("trust", False), ("extensions", ()),
)  # fmt: skip


def _in_steps(
    program: Program, whole: PruneChannels, steps: int, curve: str, request: PruneRequest
) -> Iterator[Pruned]:
    original, plan = program, None
    structure = structure_of(program, heads=whole.heads, rules=whole.rules)
    costs = Costs(structure, whole.device)
    first = Whole(
        {group.tensors: len(group) for group in structure.prunable},
        {what: getattr(costs, what)() for what in whole.wanted().budget},
    )
    for step in in_steps(replace(whole.as_share(structure), whole=first), steps, curve):
        found = _pruned(
            program, PruneRequest(step, None, request.data, request.loss, request.calibration_data)
        )
        program, plan = found.program, found.plan if plan is None else plan.then(found.plan)
        yield Pruned(program, plan, report_of(original, program, plan, whole.device), original, whole.rules)


def prune_step(
    *,
    ratio: float = 0.5,
    macs: float | None = None,
    params: float | None = None,
    latency: float | str | None = None,
    criterion: str = "l2",
    ranking: str = "local",
    align: int | None = None,
    multiple: int = 1,
    device: Device | None = None,
    layers: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
    heads: bool = False,
    seed: int = 0,
    rules: Rules = RULES,
) -> PruneChannels:
    """The pass that a user's words ask for.

    Raises:
        UsageError: a value out of range.
    """
    if layers is not None and not (isinstance(layers, Mapping) and all(isinstance(p, str) for p in layers)):
        raise UsageError("layers takes a mapping from pattern to ratio", fix='layers={"layer4.*": 0.2}')
    return PruneChannels(
        ratio=ratio,
        macs=macs,
        params=params,
        latency=latency,
        criterion=criterion,
        ranking=ranking,
        align=multiple if align is None else align,
        layers=tuple((layers or {}).items()),
        protect=words.names("protect", protect),
        heads=heads,
        seed=seed,
        rules=rules,
        device=device,
    )


def read_plan(plan: Plan | str | Path | None) -> Plan | None:
    """A plan, from its file or its folder if need be.

    Raises:
        UsageError: neither a plan nor a path.
        ArtifactError: no plan there.
    """
    if isinstance(plan, (str, Path)):
        path = Path(plan)
        return Plan.load(path / "plan.json" if path.is_dir() else path)
    if plan is not None and not isinstance(plan, Plan):
        raise UsageError(f"plan takes a Plan or its file, got {type(plan).__name__}")
    return plan


def _canonical(
    model: Any, inputs: Any, kwargs: Any, dynamic_batch: Any, name: Any, trust: bool, extensions: Any
) -> tuple[Program, Catalogue]:
    catalogue = with_extensions(extensions)
    request = Request(
        target=next(iter(catalogue.targets())), example_inputs=inputs, example_kwargs=kwargs,
        dynamic_batch=dynamic_batch, name=name, trust=trust, catalogue=catalogue,
    )  # fmt: skip
    return run_pipeline(captured(model, request), canonical()), catalogue


def _multiple(targets: Sequence[Target]) -> int:
    """The channel multiple that suits every target."""
    return lcm(*(target.channel_multiple for target in targets))


def _device(catalogue: Catalogue, targets: Sequence[Target], latency: Any) -> Device | None:
    """What is known of the one target's speed.

    Raises:
        UsageError: a latency is asked for, and there is no target, more than one, or one whose speed is not known.
    """
    if len(targets) == 1 and targets[0].speed is not None:
        return Device(targets[0].name, targets[0].speed, targets[0].channel_multiple)
    if latency is None:
        return None
    known = ", ".join(target.name for target in catalogue.targets() if target.speed is not None)
    if len(targets) != 1:
        raise UsageError("latency is of one target", fix=f"one of {known}")
    raise UsageError(
        f"the speed of {targets[0].name} is not known",
        why="no source gives its peaks, or its name stands for several devices",
        fix=f"macs=…, or one of {known}; a Target of your own may carry a Speed",
    )


def _pruned(program: Program, request: PruneRequest) -> Pruned:
    step = request.step
    if request.plan is not None:
        plan: Plan = request.plan
    else:
        if step.criterion != "taylor" and (request.data is not None or request.loss is not None):
            raise UsageError(
                f"data and loss are not read by the criterion {step.criterion}",
                fix='criterion="taylor"; calibration_data measures batch norms',
            )
        if step.criterion == "taylor" and request.data is not None and request.loss is not None:
            step = replace(step, gradients=gradients_of(program, request.data, request.loss))
        plan = step.plan(structure_of(program, heads=step.heads, rules=step.rules))
    after = run_pipeline(program, (ApplyPlan(plan=plan, rules=step.rules),))
    if request.calibration_data is not None:
        after = recompute_batch_norm(after, request.calibration_data)
    return Pruned(after, plan, report_of(program, after, plan, step.device), program, step.rules)


def prune_word(given: Any, targets: Sequence[Target], catalogue: Catalogue) -> Pass | None:
    """What ``fxc.compile(…, prune=…)`` asks for: a ratio, the words of :func:`prune`, or a plan.

    Raises:
        UsageError: none of these, or a value out of range.
    """
    if given is None:
        return None
    if isinstance(given, (Plan, str, Path)):
        return ApplyPlan(plan=read_plan(given), rules=catalogue.pruning)
    multiple = _multiple(targets)
    if isinstance(given, Mapping):
        known = {f.name for f in fields(PruneChannels)} - {"gradients", "whole", "rules", "device"}
        if unknown := sorted(set(given) - known):
            raise UsageError(f"prune takes no {unknown[0]!r}", fix=f"words: {', '.join(sorted(known))}")
        device = _device(catalogue, targets, given.get("latency"))
        return prune_step(multiple=multiple, device=device, rules=catalogue.pruning, **given)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return prune_step(ratio=given, multiple=multiple, rules=catalogue.pruning)
    raise UsageError(f"prune takes a ratio, a mapping or a plan, got {type(given).__name__}", fix="prune=0.5")
