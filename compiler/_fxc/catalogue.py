"""Names to code: targets, backend rooms and passes. One line each; nothing is imported until it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxc.compiler.backend import Emitted, Runner, Violation
from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target

TARGETS = {
    "cpu-int8": "fxc.backends.openvino.target:CPU_INT8",
    "cpu-fp32": "fxc.backends.openvino.target:CPU_FP32",
    "cpu-bf16": "fxc.backends.openvino.target:CPU_BF16",
    "ort-int8": "fxc.backends.ort.target:ORT_INT8",
    "ort-fp32": "fxc.backends.ort.target:ORT_FP32",
}

ROOMS = {
    "openvino": "fxc.backends.openvino",
    "ort": "fxc.backends.ort",
}

PASSES = {
    "canonicalize": "fxc.passes.canonicalize:Canonicalize",
    "recompose": "fxc.passes.recompose:Recompose",
    "remove_dropout": "fxc.passes.remove_dropout:RemoveDropout",
    "constant_folding": "fxc.passes.constant_folding:ConstantFolding",
    "cse": "fxc.passes.cse:CommonSubexpressions",
    "dead_code": "fxc.passes.dead_code:DeadCode",
    "fold_batch_norm": "fxc.passes.fold_batch_norm:FoldBatchNorm",
    "scale_shift": "fxc.passes.scale_shift:ScaleShift",
    "fuse_activation": "fxc.passes.fuse_activation:FuseActivation",
    "substitute": "fxc.passes.substitute:Substitute",
}


def resolve(reference: str) -> Any:
    """The object that ``"module:name"`` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: unknown, with the nearest names, or no string.
    """
    if not isinstance(name, str):
        raise UsageError(
            f"a target is given by its name, got {type(name).__name__}", fix='fxc.compile(model, "cpu-int8")'
        )
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"known targets: {', '.join(TARGETS)}"
        raise UsageError(f"unknown target {name!r}", fix=hint)
    found = resolve(TARGETS[name])
    assert isinstance(found, Target)
    return found


def targets() -> tuple[Target, ...]:
    """Every target, in catalogue order. Imports no torch."""
    return tuple(target(name) for name in TARGETS)


def pipeline(text: str) -> tuple[Any, ...]:
    """Passes from their text form, ``"canonicalize{},fold_batch_norm{}"``.

    Raises:
        UsageError: unknown pass or option, or a syntax error with its position.
    """
    from fxc.compiler.passtext import parse_pipeline

    return parse_pipeline(text, PASSES)


@dataclass(frozen=True)
class Room:
    """A backend room by its package name; its modules are imported when a function is first called."""

    package: str

    def _call(self, module: str, function: str) -> Callable[..., Any]:
        return resolve(f"{self.package}.{module}:{function}")

    def check(self, program: Any, target: Target) -> list[Violation]:
        """Everything in ``program`` that ``target`` cannot take."""
        return self._call("legal", "check")(program, target)

    def pipeline(self, target: Target) -> tuple[Any, ...]:
        """The room's own passes, run before annotation."""
        return self._call("passes", "pipeline")(target)

    def emit(self, program: Any, target: Target, directory: Path) -> Emitted:
        """Write the model file(s) into ``directory``."""
        return self._call("emit", "emit")(program, target, directory)

    def load(self, model: Path, target: Target, **options: Any) -> Runner:
        """Load an emitted file with the runtime of this host."""
        return self._call("run", "load")(model, target, **options)


def room(target: Target) -> Room:
    """The room that emits and runs files for ``target``."""
    return Room(ROOMS[target.backend])
