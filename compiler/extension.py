"""``Extension``: what another package adds to the compiler. Torch-free, so that listing its targets can be instant."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target

if TYPE_CHECKING:
    from fxc.compiler.rule import Rule

Functions: TypeAlias = Mapping[Any, Callable[..., Any]]
"""Operator overload to the function that lowers it."""

PruningRules: TypeAlias = Mapping[Any, Any]
"""Operator overload to its :class:`fxc.passes.prune.flow.Rule`."""

EMPTY: Functions = MappingProxyType({})

_NAME = re.compile(r"[A-Za-z]\w*(-\w+)*", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Extension:
    """Operators, rewrites, targets and backend rooms of another package.

    ``lowerings``, ``overrides``, ``rules``, ``pruning`` and ``operators`` may each be a reference, ``"package.module:NAME"``. It is
    resolved when a model is compiled, so a package whose parts need torch still lists its targets without it.

    Attributes:
        name: of the extension, as the report shows it.
        lowerings: operator overload to the function that writes it as ONNX nodes: ``function(writer, **arguments)``,
            whose parameters after the first are a choice of the names in the operator's schema.
        overrides: the same, for operators that fxc lowers itself and that are to be lowered in another way.
        rules: rewrite rules (:class:`fxc.compiler.rule.Rule`), each tried in a walk over the canonical program, in
            order, before constants and batch norms are folded. What they make is folded like the model's own.
        tolerance: the largest relative error that the rules may cause on any output, checked in every compile; 0 for
            bit-exact ones.
        pruning: operator overload to the :class:`fxc.passes.prune.flow.Rule` that says which channels shrink together. One
            that PyTorch tags as pointwise needs none.
        targets: further targets. ``Target.backend`` names a room of fxc, or one of ``rooms``.
        rooms: backend room to the package that holds its ``legal``, ``passes``, ``emit`` and ``run`` modules.
        operators: further operators that may be in a bundle's program; those with a lowering or a pruning
            rule may be there anyway.
        version: recorded in the manifest; that of the package, if the extension is installed and states none.

    Raises:
        UsageError: a part that is not what it must be, naming the extension.
    """

    name: str
    lowerings: Functions | str = field(default_factory=dict)
    overrides: Functions | str = field(default_factory=dict)
    rules: tuple[Rule, ...] | str = ()
    tolerance: float = 1e-4
    pruning: PruningRules | str = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    rooms: Mapping[str, str] = field(default_factory=dict)
    operators: tuple[Any, ...] | str = ()
    version: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UsageError(f"an extension cannot be called {self.name!r}", fix='a name such as "acme"')
        if not isinstance(self.version, str):
            raise self._error(f"version takes text, got {self.version!r}")
        self._check_tolerance()
        self._check_targets()
        self._check_rooms()
        for word, check in _CHECKS.items():
            value = getattr(self, word)
            if isinstance(value, str):
                self._check_reference(word, value)
            elif reason := check(value):
                raise self._error(f"{word}: {reason}")

    def resolved(self) -> Extension:
        """The same extension with every reference replaced by what it names.

        Raises:
            UsageError: a reference that leads nowhere, or to something that the part cannot be.
        """
        parts = {word: getattr(self, word) for word in _CHECKS}
        return replace(self, **{word: self._resolve(word, value) for word, value in parts.items()})

    def _resolve(self, word: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        module, _, name = value.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        # Whatever the import of another package raises, the extension is at fault and must be named.
        except Exception as error:
            raise self._error(f"{word}: {value} cannot be loaded: {type(error).__name__}: {error}") from error
        if isinstance(found, str):
            raise self._error(f"{word}: {value} is text, not {word}")
        return found

    def _error(self, what: str, fix: str | None = None) -> UsageError:
        return UsageError(f"extension {self.name}: {what}", fix=fix)

    def _check_reference(self, word: str, value: str) -> None:
        if not _REFERENCE.fullmatch(value):
            raise self._error(f"{word}: {value!r} is no reference", fix='"package.module:NAME"')

    def _check_tolerance(self) -> None:
        number = isinstance(self.tolerance, (int, float)) and not isinstance(self.tolerance, bool)
        if not number or not 0 <= self.tolerance < 1:
            raise self._error(f"tolerance takes a relative error in [0, 1), got {self.tolerance!r}")

    def _check_targets(self) -> None:
        if not isinstance(self.targets, tuple) or not all(isinstance(t, Target) for t in self.targets):
            raise self._error(f"targets takes a tuple of Target values, got {self.targets!r}")
        names = [t.name for t in self.targets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise self._error(f"two targets are called {twice[0]!r}")

    def _check_rooms(self) -> None:
        rooms = self.rooms
        if not isinstance(rooms, Mapping) or not all(isinstance(v, str) for kv in rooms.items() for v in kv):
            raise self._error(f"rooms takes a mapping from room to package name, got {rooms!r}")


def unknown_parameters(function: Callable[..., Any], overload: Any) -> list[str]:
    """Parameters of a lowering after the first that the operator's schema does not have."""
    names = list(inspect.signature(function).parameters)[1:]
    known = {argument.name for argument in overload._schema.arguments}
    return [name for name in names if name not in known]


def _no_lowerings(value: object) -> str | None:
    """Why ``value`` is no table of lowering functions, or ``None``."""
    if not isinstance(value, Mapping):
        return f"takes a mapping from operator to function, got {type(value).__name__}"
    return next((reason for op, f in value.items() if (reason := _no_operator(op) or _unfit(f, op))), None)


def _unfit(function: Any, overload: Any) -> str | None:
    if not callable(function):
        return f"{overload} leads to {function!r}, which is no function"
    name = getattr(function, "__name__", repr(function))
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return f"{name} must name its parameters: the writer, then arguments of {overload}"
    if unknown := unknown_parameters(function, overload):
        known = ", ".join(argument.name for argument in overload._schema.arguments)
        return f"{name} takes {', '.join(unknown)}, which {overload} does not have; it has {known}"
    return None


def _no_operator(value: Any) -> str | None:
    """Why ``value`` is no operator overload, or ``None``."""
    if hasattr(value, "_schema") and hasattr(value, "overloadpacket"):
        return None
    overload = getattr(value, "_opoverload", None)  # what torch.library.custom_op returns
    if overload is None and callable(getattr(value, "overloads", None)):
        overload = getattr(value, value.overloads()[0])
    hint = f"; torch.ops.{overload} is one" if overload is not None else ""
    return f"{value!r} is no operator overload{hint}"


def _no_pruning(value: object) -> str | None:
    """Why ``value`` is no table of pruning rules, or ``None``."""
    if not isinstance(value, Mapping):
        return f"takes a mapping from operator to rule, got {type(value).__name__}"
    return next(
        (reason for op, rule in value.items() if (reason := _no_operator(op) or _no_label(rule, op))), None
    )


def _no_label(rule: Any, overload: Any) -> str | None:
    label, rewrite = getattr(rule, "label", None), getattr(rule, "rewrite", None)
    fits = callable(label) and (rewrite is None or callable(rewrite)) and not isinstance(rule, type)
    return None if fits else f"{overload} leads to {rule!r}, which is no fxc.passes.prune.flow.Rule"


def _no_operators(value: object) -> str | None:
    if not isinstance(value, (tuple, list)):
        return f"takes a tuple of operator overloads, got {type(value).__name__}"
    return next((reason for op in value if (reason := _no_operator(op))), None)


def _no_rules(value: object) -> str | None:
    """Why ``value`` is no tuple of rewrite rules, or ``None``."""
    if not isinstance(value, (tuple, list)):
        return f"takes a tuple of rules, got {type(value).__name__}"
    return next((reason for rule in value if (reason := _no_rule(rule))), None)


def _no_rule(rule: Any) -> str | None:
    from fxc.compiler.rule import Rule

    if isinstance(rule, type) and issubclass(rule, Rule):
        return f"{rule.__name__} is a class; give an instance, {rule.__name__}()"
    if not isinstance(rule, Rule):
        return f"{rule!r} is no fxc.compiler.rule.Rule"
    if not isinstance(getattr(rule, "name", None), str) or not rule.name:
        return f"{type(rule).__name__} has no name"
    anchors = getattr(rule, "anchors", ())
    if not isinstance(anchors, (tuple, list)) or not anchors:
        return f"{rule.name} has no anchors: the operator overloads that it is tried at"
    # Only an operator with several results has getitem behind it.
    overloads = [anchor for anchor in anchors if anchor is not operator.getitem]
    return next((f"{rule.name}: {reason}" for op in overloads if (reason := _no_operator(op))), None)


_CHECKS: Mapping[str, Callable[[object], str | None]] = MappingProxyType(
    {
        "lowerings": _no_lowerings,
        "overrides": _no_lowerings,
        "rules": _no_rules,
        "pruning": _no_pruning,
        "operators": _no_operators,
    }
)
