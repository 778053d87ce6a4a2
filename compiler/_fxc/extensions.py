"""Extensions as the catalogue uses them: the ones that a caller gives, and the ones that installed packages offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from fxc.compiler.errors import UsageError
from fxc.compiler.extension import EMPTY, Extension, Functions, PruningRules

GROUP = "fxc.extensions"
"""Entry-point group: ``[project.entry-points."fxc.extensions"]`` of a package, name to ``"package.module:EXTENSION"``."""

Check = Callable[[Extension, "Shelf"], Extension]
"""Admits an extension beside those of a shelf, or raises :class:`UsageError`."""


@dataclass(frozen=True)
class Shelf:
    """Extensions that fit together, in order.

    Attributes:
        broken: a sentence for each installed one that does not fit.
        packages: name of an installed one to its package and entry point, in words.
    """

    extensions: tuple[Extension, ...] = ()
    broken: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)

    def with_given(self, extension: Extension, check: Check) -> Shelf:
        """This shelf with one more.

        Raises:
            UsageError: it does not fit.
        """
        return replace(self, extensions=(*self.extensions, check(extension, self)))

    def with_installed(self, extension: Extension, check: Check) -> Shelf:
        """This shelf with one more, or with the sentence that says why it is left out."""
        try:
            return self.with_given(extension, check)
        except UsageError as error:
            said = f"{error.what} ({error.why})" if error.why else error.what
            return self.without(
                self.packages[extension.name], said.removeprefix(f"extension {extension.name}: ")
            )

    def without(self, package: str, reason: str) -> Shelf:
        """This shelf with one more sentence about what was left out."""
        sentence = f"the installed extension {package} cannot be used: {reason}"
        return replace(self, broken=(*self.broken, sentence))


@cache
def installed() -> Shelf:
    """What the entry points of installed packages lead to, by package and name. Imports those packages, once.

    One that cannot be imported, or is no :class:`Extension`, is left out with a sentence that names its package.
    """
    from importlib.metadata import entry_points

    shelf = Shelf()
    for point in sorted(entry_points(group=GROUP), key=lambda p: (_package(p), p.name)):
        words = f"{point.name} of package {_package(point)} ({point.value})"
        try:
            found = point.load()
        # A package that does not belong to us may raise anything; it must not take down what does not need it.
        except Exception as error:  # noqa: BLE001
            shelf = shelf.without(words, f"{type(error).__name__}: {error}")
            continue
        if not isinstance(found, Extension):
            shelf = shelf.without(words, f"it is a {type(found).__name__}, not an Extension")
        elif found.name in shelf.packages:
            shelf = shelf.without(words, f"{shelf.packages[found.name]} is called {found.name} too")
        else:
            shelf = _offered(shelf, found, point, words)
    return shelf


def _offered(shelf: Shelf, found: Extension, point: Any, words: str) -> Shelf:
    version = found.version or (point.dist.version if point.dist is not None else "")
    extension = replace(found, version=version)
    return replace(
        shelf,
        extensions=(*shelf.extensions, extension),
        packages={**shelf.packages, extension.name: words},
    )


def _package(point: Any) -> str:
    return point.dist.name if point.dist is not None else "?"


def together(given: Iterable[Extension], others: Shelf, check: Check) -> Shelf:
    """``given``, each of which must fit, then those of ``others`` that fit; a given one hides an installed namesake.

    Raises:
        UsageError: a given extension that does not fit.
    """
    shelf = replace(others, extensions=())
    for extension in given:
        shelf = shelf.with_given(extension, check)
    names = {extension.name for extension in shelf.extensions}
    for extension in others.extensions:
        if extension.name not in names:
            shelf = shelf.with_installed(extension, check)
    return shelf


def fits(extension: Extension, shelf: Shelf, *, targets: Iterable[str], rooms: Iterable[str]) -> Extension:
    """``extension``, if its name, targets and rooms clash with nothing and every room exists.

    Args:
        targets, rooms: the names that fxc has itself.

    Raises:
        UsageError: naming the extension and the clash.
    """
    if any(extension.name == other.name for other in shelf.extensions):
        raise UsageError(f"two extensions are called {extension.name!r}")
    taken = {**dict.fromkeys(targets, "fxc"), **_owners(shelf, lambda e: [t.name for t in e.targets])}
    _no_clash(extension, "target", [t.name for t in extension.targets], taken)
    taken_rooms = {**dict.fromkeys(rooms, "fxc"), **_owners(shelf, lambda e: e.rooms)}
    _no_clash(extension, "room", extension.rooms, taken_rooms)
    for room, package in extension.rooms.items():
        _check_room(extension, room, package)
    known = {*taken_rooms, *extension.rooms}
    for target in extension.targets:
        if target.backend not in known:
            raise UsageError(
                f"extension {extension.name}: target {target.name} needs a backend room {target.backend!r}",
                why="there is none of that name",
                fix=f"one of {', '.join(sorted(known))}, or name its package in rooms",
            )
    return extension


def _owners(shelf: Shelf, names: Callable[[Extension], Iterable[Any]]) -> dict[Any, str]:
    return {name: f"extension {e.name}" for e in shelf.extensions for name in names(e)}


def _no_clash(extension: Extension, what: str, names: Iterable[str], taken: Mapping[str, str]) -> None:
    for name in names:
        if name in taken:
            raise UsageError(
                f"extension {extension.name}: {what} {name!r} is in use", why=f"{taken[name]} has it"
            )


def _check_room(extension: Extension, room: str, package: str) -> None:
    """Every module that the driver will ask for is there; a room's own imports are not tried."""
    try:
        missing = [m for m in ("legal", "passes", "emit", "run") if find_spec(f"{package}.{m}") is None]
    # find_spec imports the parent package, which may raise anything.
    except Exception as error:
        raise UsageError(
            f"extension {extension.name}: room {room!r} cannot be found in {package}",
            why=f"{type(error).__name__}: {error}",
        ) from error
    if missing:
        raise UsageError(
            f"extension {extension.name}: room {room!r} in {package} has no module {missing[0]}",
            why="a room has legal, passes, emit and run",
        )


def resolves(extension: Extension, shelf: Shelf, *, lowerings: str, pruning: str) -> Extension:
    """``extension`` with its references resolved, if it does nothing for an operator that is done already.

    Args:
        lowerings, pruning: references to fxc's own lowering table and pruning rules.

    Raises:
        UsageError: a reference that leads nowhere, or an operator that has a lowering or a pruning rule.
    """
    ready = extension.resolved()
    _no_second_rule(ready, shelf, pruning)
    if not ready.lowerings and not ready.overrides:
        return ready
    table = _table(lowerings)
    for overload in ready.lowerings:
        if overload in table:
            raise UsageError(
                f"extension {ready.name}: fxc has a lowering for {overload}",
                fix="put it under overrides to replace that one",
            )
    for overload in ready.overrides:
        if overload not in table:
            raise UsageError(
                f"extension {ready.name}: fxc has no lowering for {overload} to override",
                fix="put it under lowerings",
            )
    taken = _owners(shelf, functions)
    for overload in functions(ready):
        if overload in taken:
            raise UsageError(f"extension {ready.name}: {taken[overload]} lowers {overload} too")
    return ready


def _no_second_rule(extension: Extension, shelf: Shelf, own: str) -> None:
    """No operator has two pruning rules."""
    if not extension.pruning:
        return
    taken = {**dict.fromkeys(_table(own), "fxc"), **_owners(shelf, pruning_rules)}
    for overload in pruning_rules(extension):
        if overload in taken:
            raise UsageError(
                f"extension {extension.name}: {taken[overload]} has a pruning rule for {overload}",
                fix="leave it out",
            )


def pruning_rules(extension: Extension) -> PruningRules:
    """The pruning rules of a resolved extension."""
    assert isinstance(extension.pruning, Mapping)
    return extension.pruning


def _table(reference: str) -> Mapping[Any, Any]:
    module, _, name = reference.partition(":")
    found: Mapping[Any, Any] = getattr(import_module(module), name)
    return found


def functions(extension: Extension) -> Functions:
    """The lowering functions of a resolved extension, overrides included."""
    assert isinstance(extension.lowerings, Mapping)
    assert isinstance(extension.overrides, Mapping)
    both = {**extension.lowerings, **extension.overrides}
    return MappingProxyType(both) if both else EMPTY
