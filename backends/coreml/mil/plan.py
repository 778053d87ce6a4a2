"""A MIL function as steps over numbered slots: constants decoded once, everything constant computed once, dead values freed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fxc.backends.coreml.mil.control import CONTROL
from fxc.backends.coreml.mil.operator import Operator
from fxc.backends.coreml.mil.rounding import Rounding
from fxc.backends.coreml.mil.table import TABLE
from fxc.backends.coreml.values import Constants, Type, type_of
from fxc.compiler.errors import ArtifactError, FxcError, LegalityError, ToolchainError

Slots = list[Any]


@dataclass
class Step:
    """One operator, ready to run.

    Attributes:
        op: its operator; ``name`` is that of its first output.
        settings: arguments that are known already, as the function wants them.
        reads: parameter to the slot of its value, or to several slots for a list.
        writes: slots and types of the outputs.
        frees: slots that nothing reads afterwards.
        blocks: of an operator of control flow, to be run by it.
    """

    op: Operator
    name: str
    settings: dict[str, Any]
    reads: dict[str, int | list[int]]
    writes: list[tuple[int, Type]]
    frees: tuple[int, ...] = ()
    blocks: tuple[Block, ...] = ()

    def run(self, slots: Slots, rounding: Rounding) -> None:
        """Compute the outputs into ``slots``.

        Raises:
            LegalityError: a setting is not known here.
            ArtifactError: the operator's values do not fit it, or its result not the type that the program states.
        """
        for (slot, wanted), value in zip(self.writes, self._results(slots, rounding), strict=True):
            slots[slot] = rounding(self.finished(value, wanted), wanted.dtype, self.name)
        for slot in self.frees:
            slots[slot] = None

    def _results(self, slots: Slots, rounding: Rounding) -> Sequence[Any]:
        try:
            arguments = dict(self.settings)
            for name, place in self.reads.items():
                value = slots[place] if isinstance(place, int) else [slots[i] for i in place]
                arguments[name] = self.op.arguments[name](value)
            if self.blocks:
                return self.op.call(*(b.bound(slots, rounding) for b in self.blocks), **arguments)  # type: ignore[no-any-return]
            result = self.op.call(**arguments)
        except FxcError as error:
            raise LegalityError(
                error.what, where=f"{self.op.name} {self.name!r}", why=error.why, fix=error.fix
            ) from error
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"the model's {self.op.name} {self.name!r} cannot be computed", why=str(error).splitlines()[0]
            ) from error
        return result if isinstance(result, tuple) else (result,)

    def finished(self, value: Any, wanted: Type) -> Any:
        """``value`` in the type that the program states."""
        if not isinstance(value, Tensor) or wanted.shape is None:
            return value
        if len(wanted.shape) != value.dim() or any(
            w not in (None, h) for w, h in zip(wanted.shape, value.shape)
        ):
            raise ArtifactError(
                f"the model's {self.op.name} {self.name!r} gives {list(value.shape)}, and the program says {wanted}",
                why="its settings and its type contradict each other",
            )
        return value


@dataclass
class Block:
    """A block of steps: of a function, or within an operator of control flow.

    Attributes:
        inputs, outputs: slots.
    """

    inputs: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    outputs: tuple[int, ...] = ()

    def bound(self, slots: Slots, rounding: Rounding) -> Callable[..., tuple[Any, ...]]:
        """The block as a function of its inputs; it reads the values around it."""

        def call(*values: Any) -> tuple[Any, ...]:
            for slot, value in zip(self.inputs, values, strict=True):
                slots[slot] = value
            for step in self.steps:
                step.run(slots, rounding)
            return tuple(slots[slot] for slot in self.outputs)

        return call


@dataclass
class Plan:
    """A function of a program, to be run any number of times.

    Attributes:
        inputs: names and types of the function's inputs, in order.
        outputs: names of what it returns.
        types: of every named value.
        operators: what every operator of the program is, ``(type, name of its first output)``, constants left out.
    """

    inputs: list[tuple[str, Type]]
    outputs: list[str]
    types: dict[str, Type]
    block: Block
    constants: Slots
    slot: Mapping[str, int]
    operators: list[tuple[str, str]] = field(default_factory=list)

    def run(self, inputs: Sequence[Tensor], rounding: Rounding, wanted: Sequence[str] = ()) -> list[Any]:
        """Outputs for ``inputs``; then the values named in ``wanted``, which the plan must have been told to keep."""
        slots = list(self.constants)
        for (name, kind), value in zip(self.inputs, inputs, strict=True):
            slots[self.slot[name]] = rounding(value, kind.dtype, name)
        for step in self.block.steps:
            step.run(slots, rounding)
        return [slots[self.slot[name]] for name in (*self.outputs, *wanted)]


def plan(function: Any, constants: Constants, rounding: Rounding, keep: Sequence[str] = ()) -> Plan:
    """The plan of a ``Function`` message.

    Args:
        rounding: what is done to results, also to those that are computed here because they are constant.
        keep: names of values that are not freed.

    Raises:
        ToolchainError: an operator that is not known here, by its name.
        ArtifactError: the program is damaged.
    """
    opset = function.opset
    if opset not in function.block_specializations:
        raise ArtifactError("the model is damaged", why=f"it has no block for its operator set {opset!r}")
    maker = _Maker(constants, rounding)
    inputs = [(i.name, type_of(i.type)) for i in function.inputs]
    for name, kind in inputs:
        maker.declare(name, kind)
    block = maker.block(function.block_specializations[opset])
    outputs = list(function.block_specializations[opset].outputs)
    kept = {maker.slot[name] for name in (*outputs, *keep) if name in maker.slot}
    _free(block.steps, kept | {i for i, v in enumerate(maker.values) if v is not None}, inside=())
    used = _touched(block) | kept
    held = [value if i in used else None for i, value in enumerate(maker.values)]
    return Plan(inputs, outputs, maker.types, block, held, maker.slot, maker.operators)


class _Maker:
    """Walks a program in order; values of constants are in ``values``, others are ``None`` there."""

    def __init__(self, constants: Constants, rounding: Rounding):
        self.constants, self.rounding = constants, rounding
        self.slot: dict[str, int] = {}
        self.types: dict[str, Type] = {}
        self.values: Slots = []
        self.operators: list[tuple[str, str]] = []

    def declare(self, name: str, kind: Type) -> int:
        self.slot[name] = len(self.values)
        self.types[name] = kind
        self.values.append(None)
        return self.slot[name]

    def block(self, message: Any) -> Block:
        inputs = tuple(self.declare(i.name, type_of(i.type)) for i in message.inputs)
        steps = tuple(step for op in message.operations if (step := self._operation(op)) is not None)
        return Block(inputs, steps, tuple(self._find(name) for name in message.outputs))

    def _operation(self, message: Any) -> Step | None:
        writes = [(o.name, type_of(o.type)) for o in message.outputs]
        if message.type == "const":
            slot = self.declare(*writes[0])
            self.values[slot] = self.constants.value(message.attributes["val"])
            return None
        name = writes[0][0] if writes else message.type
        op = _known(message.type, name)
        self.operators.append((message.type, name))
        blocks = tuple(self.block(b) for b in message.blocks)
        step = Step(op, name, {}, {}, [(self.declare(n, t), t) for n, t in writes], (), blocks)
        self._bind(message, step)
        return self._folded(step)

    def _bind(self, message: Any, step: Step) -> None:
        given = {name: self._place(argument) for name, argument in message.inputs.items()}
        for name, value in message.attributes.items():
            if name != "name":
                given[name] = self._hold(self.constants.value(value))
        self._check(step, set(given))
        for name, place in given.items():
            slots = [place] if isinstance(place, int) else place
            if all(self.values[slot] is not None for slot in slots):
                values = [self.values[slot] for slot in slots]
                step.settings[name] = self._setting(
                    step, name, values[0] if isinstance(place, int) else values
                )
            else:
                step.reads[name] = place

    def _setting(self, step: Step, name: str, value: Any) -> Any:
        try:
            return step.op.arguments[name](value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"the model's {step.op.name} {step.name!r} has a wrong {name}", why=str(error).splitlines()[0]
            ) from error

    def _check(self, step: Step, given: set[str]) -> None:
        unknown = sorted(given - set(step.op.arguments))
        missing = sorted(step.op.required - given)
        if unknown or (missing and not step.blocks):
            words = (
                f"has no {', '.join(missing)}"
                if missing
                else f"has {', '.join(unknown)}, which is not known here"
            )
            raise ToolchainError(f"the model's {step.op.name} {step.name!r} {words}", fix=_AHEAD)

    def _place(self, argument: Any) -> int | list[int]:
        slots = [
            self._find(b.name)
            if b.WhichOneof("binding") == "name"
            else self._hold(self.constants.value(b.value))
            for b in argument.arguments
        ]
        return slots[0] if len(slots) == 1 else slots

    def _hold(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _find(self, name: str) -> int:
        if name not in self.slot:
            raise ArtifactError("the model is damaged", why=f"nothing gives the value {name!r} that is read")
        return self.slot[name]

    def _folded(self, step: Step) -> Step | None:
        """``None`` if the step was run now: nothing that it reads depends on an input."""
        if step.reads or step.blocks:
            return step
        step.run(self.values, self.rounding)
        return None


_AHEAD = "the model may be newer than this fxc"


def _known(kind: str, name: str) -> Operator:
    found = TABLE.get(kind) or CONTROL.get(kind)
    if found is None:
        raise ToolchainError(
            f"the operator {kind!r} is not known here",
            where=f"{kind} {name!r}",
            why=f"the evaluator has {len(TABLE) + len(CONTROL)} operators of MIL, and not this one",
            fix=_AHEAD,
        )
    return found


def _free(steps: Sequence[Step], kept: set[int], inside: Sequence[int]) -> None:
    """Tell each step what nothing reads after it. Within a block of control flow nothing is freed: it may run again."""
    seen = set(kept)
    for step in reversed(steps):
        touched = [slot for slot, _ in step.writes]
        for place in step.reads.values():
            touched += [place] if isinstance(place, int) else place
        for block in step.blocks:
            seen.update(_touched(block))
        step.frees = tuple(dict.fromkeys(slot for slot in touched if slot not in seen))
        seen.update(touched)


def _touched(block: Block) -> set[int]:
    found = {*block.inputs, *block.outputs}
    for step in block.steps:
        found.update(slot for slot, _ in step.writes)
        for place in step.reads.values():
            found.update([place] if isinstance(place, int) else place)
        for inner in step.blocks:
            found |= _touched(inner)
    return found
