"""Names to code: targets, backend rooms and passes. One line each; nothing is imported until it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fxc.compiler.backend import Emitted, Runner, Violation
from fxc.compiler.errors import UsageError
from fxc.compiler.extension import EMPTY, Extension, Functions
from fxc.compiler.target import Target
from fxc.extensions import Shelf, fits, functions, installed, pruning_rules, resolves, together

TARGETS = {
    "cpu-int8": "fxc.backends.openvino.target:CPU_INT8",
    "cpu-fp32": "fxc.backends.openvino.target:CPU_FP32",
    "cpu-bf16": "fxc.backends.openvino.target:CPU_BF16",
    "ort-int8": "fxc.backends.ort.target:ORT_INT8",
    "ort-fp32": "fxc.backends.ort.target:ORT_FP32",
    "jetson-int8": "fxc.backends.tensorrt.target:JETSON_INT8",
    "jetson-fp16": "fxc.backends.tensorrt.target:JETSON_FP16",
    "jetson-int8-dla": "fxc.backends.tensorrt.target:JETSON_INT8_DLA",
    "tensorrt-int8": "fxc.backends.tensorrt.target:TENSORRT_INT8",
    "tensorrt-fp16": "fxc.backends.tensorrt.target:TENSORRT_FP16",
    "rk3588-int8": "fxc.backends.rknn.target:RK3588_INT8",
    "rk3588-fp16": "fxc.backends.rknn.target:RK3588_FP16",
    "rk3588-int16": "fxc.backends.rknn.target:RK3588_INT16",
    "rk3576-int8": "fxc.backends.rknn.target:RK3576_INT8",
    "rk3576-fp16": "fxc.backends.rknn.target:RK3576_FP16",
    "rk3576-int16": "fxc.backends.rknn.target:RK3576_INT16",
    "rk3568-int8": "fxc.backends.rknn.target:RK3568_INT8",
    "rk3568-fp16": "fxc.backends.rknn.target:RK3568_FP16",
    "rk3568-int16": "fxc.backends.rknn.target:RK3568_INT16",
    "rk3566-int8": "fxc.backends.rknn.target:RK3566_INT8",
    "rk3566-fp16": "fxc.backends.rknn.target:RK3566_FP16",
    "rk3562-int8": "fxc.backends.rknn.target:RK3562_INT8",
    "rk3562-fp16": "fxc.backends.rknn.target:RK3562_FP16",
    "rk3562-int16": "fxc.backends.rknn.target:RK3562_INT16",
    "rv1126b-int8": "fxc.backends.rknn.target:RV1126B_INT8",
    "rv1126b-fp16": "fxc.backends.rknn.target:RV1126B_FP16",
    "rv1126b-int16": "fxc.backends.rknn.target:RV1126B_INT16",
    "rv1106-int8": "fxc.backends.rknn.target:RV1106_INT8",
    "rv1106-int16": "fxc.backends.rknn.target:RV1106_INT16",
    "rv1106b-int8": "fxc.backends.rknn.target:RV1106B_INT8",
    "rv1103-int8": "fxc.backends.rknn.target:RV1103_INT8",
    "rv1103b-int8": "fxc.backends.rknn.target:RV1103B_INT8",
    "rv1126-int8": "fxc.backends.rknn.target:RV1126_INT8",
    "rv1109-int8": "fxc.backends.rknn.target:RV1109_INT8",
    "iphone-fp16": "fxc.backends.coreml.target:IPHONE_FP16",
    "iphone-fp32": "fxc.backends.coreml.target:IPHONE_FP32",
    "iphone-int8": "fxc.backends.coreml.target:IPHONE_INT8",
    "iphone-w8": "fxc.backends.coreml.target:IPHONE_W8",
    "iphone-w4": "fxc.backends.coreml.target:IPHONE_W4",
    "coreai-fp16": "fxc.backends.coreai.target:COREAI_FP16",
    "coreai-fp32": "fxc.backends.coreai.target:COREAI_FP32",
    "coreai-int8": "fxc.backends.coreai.target:COREAI_INT8",
}

ROOMS = {
    "openvino": "fxc.backends.openvino",
    "ort": "fxc.backends.ort",
    "tensorrt": "fxc.backends.tensorrt",
    "rknn": "fxc.backends.rknn",
    "coreml": "fxc.backends.coreml",
    "coreai": "fxc.backends.coreai",
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
    "image_input": "fxc.passes.image_input:ImageInput",
    "fuse_activation": "fxc.passes.fuse_activation:FuseActivation",
    "substitute": "fxc.passes.substitute:Substitute",
    "equalize": "fxc.passes.quantize.equalize:Equalize",
    "select_observer": "fxc.passes.quantize.select_observer:SelectObserver",
    "bias_correction": "fxc.passes.quantize.bias_correction:BiasCorrection",
    "dla_pool": "fxc.backends.tensorrt.dla_pool:DlaPool",
    "channels_first": "fxc.backends.coreml.channels_first:ChannelsFirst",
    "engine_windows": "fxc.backends.coreml.engine_windows:EngineWindows",
    "extension": "fxc.passes.extension:ExtensionRules",
    "apply_plan": "fxc.passes.prune.apply_plan:ApplyPlan",
    "low_rank": "fxc.passes.prune.low_rank:LowRank",
    "prune_channels": "fxc.passes.prune.prune_channels:PruneChannels",
}

_PRUNES = ("apply_plan", "prune_channels")

LOWERINGS = "fxc.backends.onnx.table:TABLE"

PRUNING = "fxc.passes.prune.rules:RULES"


def resolve(reference: str) -> Any:
    """The object that ``"module:name"`` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Room:
    """A backend room by its package name; its modules are imported when a function is first called.

    Attributes:
        package: holds ``legal``, ``passes``, ``emit`` and ``run``.
        lowerings: gives the lowering functions of extensions, by operator overload.
        tools: gives the versions of extensions, for the manifest.
    """

    package: str
    lowerings: Callable[[], Functions] = lambda: EMPTY
    tools: Callable[[], Mapping[str, str]] = dict

    def _call(self, module: str, function: str) -> Callable[..., Any]:
        return resolve(f"{self.package}.{module}:{function}")

    def check(self, program: Any, target: Target) -> list[Violation]:
        """Everything in ``program`` that ``target`` cannot take."""
        return self._call("legal", "check")(program, target, lowerings=self.lowerings())

    def pipeline(self, target: Target) -> tuple[Any, ...]:
        """The room's own passes, run before annotation."""
        return self._call("passes", "pipeline")(target)

    def emit(self, program: Any, target: Target, directory: Path) -> Emitted:
        """Write the model file(s) into ``directory``."""
        emitted = self._call("emit", "emit")(program, target, directory, lowerings=self.lowerings())
        return replace(emitted, tools={**emitted.tools, **self.tools()})

    def load(self, model: Path, target: Target, **options: Any) -> Runner:
        """Load an emitted file with the runtime of this host."""
        return self._call("run", "load")(model, target, **options)


@dataclass(frozen=True)
class Catalogue:
    """What fxc has itself, then what the ``given`` extensions add, then those of installed packages.

    Packages are looked through when something is asked for that fxc itself does not have.
    """

    given: tuple[Extension, ...] = ()

    @cached_property
    def _shelf(self) -> Shelf:
        """Extensions whose names fit together, with references as they are."""
        return together(self.given, installed(), partial(fits, targets=TARGETS, rooms=ROOMS))

    @cached_property
    def _ready(self) -> Shelf:
        """Extensions whose parts are all there and fit together."""
        given = {extension.name for extension in self.given}
        shelf = replace(self._shelf, extensions=())
        for extension in self._shelf.extensions:
            add = shelf.with_given if extension.name in given else shelf.with_installed
            shelf = add(extension, partial(resolves, lowerings=LOWERINGS, pruning=PRUNING))
        return shelf

    @property
    def broken(self) -> tuple[str, ...]:
        """A sentence for each installed extension that cannot be used."""
        return self._ready.broken

    @property
    def unlisted(self) -> tuple[str, ...]:
        """A sentence for each installed extension whose targets cannot even be listed; resolves no reference."""
        return self._shelf.broken

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """Every extension that can be used, its references resolved.

        Raises:
            UsageError: a given extension that does not fit.
        """
        return self._ready.extensions

    @property
    def rules(self) -> tuple[Any, ...]:
        """A pass for each extension that has rules."""
        rules = resolve(PASSES["extension"])
        return tuple(rules(e.name, e.tolerance, tuple(e.rules)) for e in self.extensions if e.rules)

    @property
    def lowerings(self) -> Functions:
        """Lowering functions of all extensions."""
        return MappingProxyType({op: f for e in self.extensions for op, f in functions(e).items()})

    @property
    def pruning(self) -> Mapping[Any, Any]:
        """What pruning knows about operators: fxc's own rules, then those of all extensions."""
        added = {op: rule for e in self.extensions for op, rule in pruning_rules(e).items()}
        return MappingProxyType({**resolve(PRUNING), **added})

    @property
    def operators(self) -> frozenset[str]:
        """Operators of extensions that a program in a file may use, ``"acme.soft_gate.default"``."""
        return frozenset(
            str(op) for e in self.extensions for op in (*functions(e), *pruning_rules(e), *e.operators)
        )

    @property
    def versions(self) -> dict[str, str]:
        """Extension to its version, where it has one."""
        return {extension.name: extension.version for extension in self.extensions if extension.version}

    def target(self, name: str) -> Target:
        """The target called ``name``.

        Raises:
            UsageError: unknown, with the nearest names, or no string.
        """
        if not isinstance(name, str):
            raise UsageError(
                f"a target is given by its name, got {type(name).__name__}",
                fix='fxc.compile(model, "cpu-int8")',
            )
        if name in TARGETS:
            found = resolve(TARGETS[name])
            assert isinstance(found, Target)
            return found
        added = {t.name: t for e in self._shelf.extensions for t in e.targets}
        if name in added:
            return added[name]
        raise self._unknown(name, [*TARGETS, *added])

    def _unknown(self, name: str, known: list[str]) -> UsageError:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"known targets: {', '.join(known)}"
        return UsageError(
            f"unknown target {name!r}",
            why="; ".join(self._shelf.broken) or None,
            fix=f"{hint} A target of an extension needs its package installed, or extensions=[…]",
        )

    def targets(self) -> tuple[Target, ...]:
        """Every target, in catalogue order, extensions' behind. Imports no torch, unless an installed package does."""
        own = (self.target(name) for name in TARGETS)
        return (*own, *(t for e in self._shelf.extensions for t in e.targets))

    def room(self, target: Target) -> Room:
        """The room that emits and runs files for ``target``."""
        package = ROOMS.get(target.backend)
        if package is None:
            package = {r: p for e in self._shelf.extensions for r, p in e.rooms.items()}[target.backend]
        return Room(package, lambda: self.lowerings, lambda: self.versions)

    def open_runner(self, model: Path, target: str, **options: Any) -> Runner:
        """An emitted file on this host, with the runtime of its target's room."""
        found = self.target(target)
        return self.room(found).load(model, found, **options)

    def pipeline(self, text: str) -> tuple[Any, ...]:
        """Passes from their text form, ``"canonicalize{},fold_batch_norm{}"``.

        Raises:
            UsageError: unknown pass, option or extension, or a syntax error with its position.
        """
        from fxc.compiler.passtext import parse_pipeline

        return tuple(map(self._with_rules, parse_pipeline(text, PASSES)))

    def _with_rules(self, step: Any) -> Any:
        if step.name in _PRUNES:
            return replace(step, rules=self.pruning)
        if step.name != "extension":
            return step
        known = {extension.name: extension for extension in self.extensions}
        if step.of not in known:
            raise UsageError(f"unknown extension {step.of!r}", fix=f"known: {', '.join(known) or 'none'}")
        return replace(step, rules=tuple(known[step.of].rules))


INSTALLED = Catalogue()
"""The catalogue of a caller that gives no extensions: fxc's own, and those of installed packages."""


def with_extensions(extensions: Iterable[Extension] | Extension = ()) -> Catalogue:
    """The catalogue with further extensions, which are checked at once.

    Raises:
        UsageError: no extension, or one that clashes with fxc or with another.
    """
    given = (extensions,) if isinstance(extensions, Extension) else tuple(extensions)
    if not given:
        return INSTALLED
    for extension in given:
        if not isinstance(extension, Extension):
            raise UsageError(
                f"extensions takes fxc.Extension values, got {type(extension).__name__}",
                fix="extensions=[Extension(name=…, lowerings=…)]",
            )
    catalogue = Catalogue(given)
    # Asking for them is what checks them.
    _ = catalogue.extensions
    return catalogue


def target(name: str) -> Target:
    """The target called ``name``: one of fxc's own, or of an installed package.

    Raises:
        UsageError: unknown, with the nearest names, or no string.
    """
    return INSTALLED.target(name)


def targets() -> tuple[Target, ...]:
    """Every target, in catalogue order, those of installed packages behind. Imports no torch, unless such a package does."""
    return INSTALLED.targets()


def pipeline(text: str) -> tuple[Any, ...]:
    """Passes from their text form, ``"canonicalize{},fold_batch_norm{}"``.

    Raises:
        UsageError: unknown pass or option, or a syntax error with its position.
    """
    return INSTALLED.pipeline(text)


def room(target: Target) -> Room:
    """The room that emits and runs files for ``target``."""
    return INSTALLED.room(target)
