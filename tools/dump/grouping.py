"""Which module's frame each node stands in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LEVELS = 2
"""Frames inside frames: two show a stage and its blocks; more is noise."""

MOSTLY = 0.8
"""A module that holds more than this part of what is around it tells nothing new and gets no frame."""


@dataclass(frozen=True)
class Frame:
    """A frame: the module it stands for and the frame around it, by id. A module used twice has two."""

    id: str
    label: str
    around: str | None


def group_by_module(
    layers: Mapping[str, Sequence[str]], edges: Iterable[tuple[str, str]]
) -> tuple[dict[str, str | None], list[Frame]]:
    """Frames for a graph.

    Args:
        layers: every node's layers in the model, ``("layer1.0.conv1",)``, in graph order.
        edges: (producer, reader) names.

    Returns:
        The innermost frame of every node, and the frames, outer before inner. The members of a frame are connected.
    """
    paths = _module_paths(layers)
    frames: list[Frame] = []
    innermost: dict[str, str | None] = dict.fromkeys(layers)
    neighbours = defaultdict(list)
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    _split(list(layers), None, LEVELS, paths, neighbours, innermost, frames, start=0)
    return innermost, frames


def _module_paths(layers: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The modules around each node, outermost first: of several layers, the modules they share."""
    containers = {p for names in layers.values() for name in names for p in _prefixes(name)[:-1]}
    paths = {}
    for node, names in layers.items():
        chains = [[p for p in _prefixes(name) if p in containers] for name in names]
        shared = chains[0] if chains else []
        for chain in chains[1:]:
            shared = [p for p in shared if p in chain]
        paths[node] = tuple(shared)
    return paths


def _prefixes(name: str) -> list[str]:
    parts = name.split(".") if name else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _split(
    members: list[str],
    around: str | None,
    levels: int,
    paths: Mapping[str, tuple[str, ...]],
    neighbours: Mapping[str, list[str]],
    innermost: dict[str, str | None],
    frames: list[Frame],
    start: int,
) -> None:
    """Give the modules among ``members`` their frames, at depth ``start`` of the module paths or below."""
    if not levels:
        return
    by_module: dict[str, list[str]] = defaultdict(list)
    for name in members:
        if len(paths[name]) > start:
            by_module[paths[name][start]].append(name)
    for module, inside in by_module.items():
        if len(inside) > MOSTLY * len(members):
            _split(inside, around, levels, paths, neighbours, innermost, frames, start + 1)
            continue
        for part in _connected(inside, neighbours):
            if len(part) > 1:
                frame = Frame(f"g{len(frames)}", module, around)
                frames.append(frame)
                innermost.update(dict.fromkeys(part, frame.id))
                _split(part, frame.id, levels - 1, paths, neighbours, innermost, frames, start + 1)


def _connected(members: list[str], neighbours: Mapping[str, list[str]]) -> list[list[str]]:
    """Connected parts, each in the order of ``members``."""
    left = dict.fromkeys(members)
    part_of: dict[str, int] = {}
    for number, first in enumerate(members):
        if first not in left:
            continue
        del left[first]
        reached = [first]
        for name in reached:
            part_of[name] = number
            for other in neighbours[name]:
                if other in left:
                    del left[other]
                    reached.append(other)
    parts: dict[int, list[str]] = {number: [] for number in sorted(Counter(part_of.values()))}
    for name in members:
        parts[part_of[name]].append(name)
    return list(parts.values())
